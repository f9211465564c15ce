"""What a result copies of its source (PS3.3 C.7.1, C.7.2, C.7.6.22): the attributes, and what each must hold."""

from __future__ import annotations

EMPTY_WHERE_UNKNOWN = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
)
"""Type 2 in the Patient and General Study modules: always present, though they may be empty."""

OPTIONAL = (
    # Patient
    *("ReferencedPatientSequence", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    *("PatientBirthTime", "QualityControlSubject", "StrainDescription", "StrainNomenclature", "StrainCodeSequence"),
    *("StrainAdditionalInformation", "OtherPatientNames", "OtherPatientIDsSequence", "EthnicGroupCodeSequence"),
    *("PatientComments", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization"),
    # Clinical Trial Subject and Study
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
    *("ClinicalTrialTimePointDescription", "ClinicalTrialTimePointTypeCodeSequence"),
    # General Study
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName"),
    *("ConsultingPhysicianIdentificationSequence", "StudyDescription", "ProcedureCodeSequence", "PhysiciansOfRecord"),
    *("PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy", "ReferencedStudySequence"),
    *("PhysiciansReadingStudyIdentificationSequence", "RequestingService", "RequestingServiceCodeSequence"),
    "ReasonForPerformedProcedureCodeSequence",
    # Patient Study
    *("AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientWeight"),
    *("PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension"),
    *("MedicalAlerts", "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory", "PregnancyStatus"),
    *("LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit", "ReasonForVisitCodeSequence", "AdmissionID"),
    *("IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription", "PatientState"),
    "IssuerOfServiceEpisodeIDSequence",
    # Specimen
    *("ContainerIdentifier", "IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence"),
    *("ContainerDescription", "SpecimenDescriptionSequence"),
    # General Equipment and Acquisition: of the equipment that contributed to the result (PS3.3 C.12.1)
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "InstitutionName"),
    *("InstitutionalDepartmentName", "InstitutionAddress", "StationName", "AcquisitionDateTime"),
    # Image, Frame of Reference
    *("PositionReferenceIndicator", "PatientOrientation", "Laterality", "BurnedInAnnotation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
"""Left out where they hold nothing valid."""

_YES_NO = ("YES", "NO")
_ENTITY_TYPES = ("DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500")
CHOICES: dict[str, tuple[str, ...]] = {
    "PatientSex": ("M", "F", "O"),
    "TypeOfPatientID": ("TEXT", "RFID", "BARCODE"),
    "QualityControlSubject": _YES_NO,
    "PatientIdentityRemoved": _YES_NO,
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "ResponsiblePersonRole": ("OWNER", "PARENT", "CHILD", "SPOUSE", "SIBLING", "RELATIVE", "GUARDIAN", "CUSTODIAN")
    + ("AGENT", "INVESTIGATOR", "VETERINARIAN"),
    "SmokingStatus": (*_YES_NO, "UNKNOWN"),
    "PregnancyStatus": ("1", "2", "3", "4"),
    "UniversalEntityIDType": _ENTITY_TYPES,
    "Laterality": ("R", "L"),
    "BurnedInAnnotation": _YES_NO,
    "LossyImageCompression": ("00", "01"),
}
"""Enumerated values: there are no others."""

_INSTANCE = (("ReferencedSOPClassUID",), ("ReferencedSOPInstanceUID",))
_PERSON = (("PersonIdentificationCodeSequence",), ("InstitutionName", "InstitutionCodeSequence"))
_ISSUER = (("LocalNamespaceEntityID", "UniversalEntityID"),)
CODE = (("CodeMeaning",), ("CodeValue", "LongCodeValue", "URNCodeValue"))
"""What an item of a code sequence must have (PS3.3 Table 8.8-1); of each tuple one."""
REQUIRED_IN_ITEMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ReferencedPatientSequence": _INSTANCE,
    "ReferencedStudySequence": _INSTANCE,
    "IssuerOfPatientIDQualifiersSequence": (("UniversalEntityID",),),
    "OtherPatientIDsSequence": (("PatientID",), ("TypeOfPatientID",)),
    "BreedRegistrationSequence": (("BreedRegistrationNumber",), ("BreedRegistryCodeSequence",)),
    "IssuerOfAccessionNumberSequence": _ISSUER,
    "IssuerOfAdmissionIDSequence": _ISSUER,
    "IssuerOfServiceEpisodeIDSequence": _ISSUER,
    "IssuerOfTheContainerIdentifierSequence": _ISSUER,
    "IssuerOfTheSpecimenIdentifierSequence": _ISSUER,
    "AssigningFacilitySequence": _ISSUER,
    "ReferringPhysicianIdentificationSequence": _PERSON,
    "ConsultingPhysicianIdentificationSequence": _PERSON,
    "PhysiciansOfRecordIdentificationSequence": _PERSON,
    "PhysiciansReadingStudyIdentificationSequence": _PERSON,
    "SpecimenDescriptionSequence": (("SpecimenIdentifier",), ("SpecimenUID",)),
    "SpecimenPreparationSequence": (("SpecimenPreparationStepContentItemSequence",),),
    "SpecimenPreparationStepContentItemSequence": (("ValueType",), ("ConceptNameCodeSequence",)),
}
"""By sequence: of each tuple of attributes an item must have one; an item without it is left out."""

EMPTY_IN_ITEMS = {
    "SpecimenDescriptionSequence": ("IssuerOfTheSpecimenIdentifierSequence", "SpecimenPreparationSequence"),
}
"""By sequence: the Type 2 sequences of an item, empty where there is nothing."""

CODE_ATTRIBUTES = (
    *("CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"),
)
"""A code is copied by these; where it was looked up (its context group) is not."""
