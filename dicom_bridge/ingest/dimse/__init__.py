"""The DICOM port: C-ECHO, C-STORE and storage commitment as a service class provider."""
