"""From `[SEG]` states, clicks and boxes to masks."""
