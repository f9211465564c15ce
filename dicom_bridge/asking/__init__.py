"""Asking in the browser: a page on which anyone drops images, types words, and sees what is found (docs/ask.md)."""
