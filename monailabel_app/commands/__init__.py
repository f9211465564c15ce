"""Commands that `rcmed` finds by entry point."""
