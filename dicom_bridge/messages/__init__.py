"""Findings as messages for information systems: HL7 v2 ORU^R01, and FHIR R4 resources."""
