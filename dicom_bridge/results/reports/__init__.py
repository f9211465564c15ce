"""Findings in words and codes: TID 1500 reports and key object selections."""
