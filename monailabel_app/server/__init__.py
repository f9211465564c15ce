"""The web server of the annotation app: routes, guards, upload sessions, start and stop."""
