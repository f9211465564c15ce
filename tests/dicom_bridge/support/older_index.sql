-- The index as it was before its tables had versions, and before commitments and followed servers.
CREATE TABLE associations (
    id VARCHAR NOT NULL,
    calling_ae VARCHAR NOT NULL,
    called_ae VARCHAR NOT NULL,
    peer VARCHAR NOT NULL,
    opened_at FLOAT NOT NULL,
    released_at FLOAT,
    PRIMARY KEY (id)
);
CREATE TABLE jobs (
    job_id VARCHAR NOT NULL,
    study_uid VARCHAR NOT NULL,
    series_uid VARCHAR NOT NULL,
    generation INTEGER NOT NULL,
    route VARCHAR NOT NULL,
    instances JSON NOT NULL,
    prompts JSON NOT NULL,
    destinations JSON NOT NULL,
    state VARCHAR NOT NULL,
    error VARCHAR,
    created_at FLOAT NOT NULL,
    finished_at FLOAT,
    PRIMARY KEY (job_id)
);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_jobs_study_uid ON jobs (study_uid);
CREATE TABLE lines (
    id INTEGER NOT NULL,
    time FLOAT NOT NULL,
    level VARCHAR NOT NULL,
    study_uid VARCHAR,
    series_uid VARCHAR,
    job_id VARCHAR,
    text VARCHAR NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX lines_by_study ON lines (study_uid, id);
CREATE TABLE studies (
    study_uid VARCHAR NOT NULL,
    description VARCHAR,
    first_received_at FLOAT NOT NULL,
    last_received_at FLOAT NOT NULL,
    generation INTEGER NOT NULL,
    is_open BOOLEAN NOT NULL,
    PRIMARY KEY (study_uid)
);
CREATE INDEX ix_studies_is_open ON studies (is_open);
CREATE TABLE deliveries (
    job_id VARCHAR NOT NULL,
    destination VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    delivered JSON NOT NULL,
    refused JSON NOT NULL,
    text VARCHAR,
    updated_at FLOAT NOT NULL,
    PRIMARY KEY (job_id, destination),
    FOREIGN KEY(job_id) REFERENCES jobs (job_id)
);
CREATE TABLE series (
    study_uid VARCHAR NOT NULL,
    series_uid VARCHAR NOT NULL,
    modality VARCHAR,
    body_part VARCHAR,
    description VARCHAR,
    protocol_name VARCHAR,
    calling_ae VARCHAR,
    called_ae VARCHAR,
    PRIMARY KEY (study_uid, series_uid),
    FOREIGN KEY(study_uid) REFERENCES studies (study_uid)
);
CREATE TABLE instances (
    study_uid VARCHAR NOT NULL,
    series_uid VARCHAR NOT NULL,
    instance_uid VARCHAR NOT NULL,
    sop_class_uid VARCHAR NOT NULL,
    transfer_syntax_uid VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    received_at FLOAT NOT NULL,
    association VARCHAR NOT NULL,
    PRIMARY KEY (study_uid, series_uid, instance_uid),
    FOREIGN KEY(study_uid, series_uid) REFERENCES series (study_uid, series_uid),
    FOREIGN KEY(association) REFERENCES associations (id)
);
CREATE INDEX ix_instances_association ON instances (association);
INSERT INTO associations VALUES ('a', 'CT01', 'RCMED', '127.0.0.1:1', 1000.0, NULL);
INSERT INTO studies VALUES ('1.2', NULL, 1000.0, 1000.0, 1, 0);
INSERT INTO series VALUES ('1.2', '1.2.1', 'CT', NULL, NULL, NULL, 'CT01', 'RCMED');
INSERT INTO instances VALUES ('1.2', '1.2.1', '1.2.1.1', '1.2.840.1', '1.2.840.2', 'a/1.2.1.1.dcm', 1000.0, 'a');
INSERT INTO jobs VALUES ('done', '1.2', '1.2.1', 1, 'r', '["1.2.1.1"]', '[]', '["d"]', 'done', NULL, 1001.0, 1002.0);
INSERT INTO jobs VALUES ('queued', '1.2', '1.2.1', 1, 's', '["1.2.1.1"]', '[]', '["d"]', 'queued', NULL, 1001.0, NULL);
INSERT INTO deliveries VALUES ('done', 'd', 'delivered', 1, '["2.25.1"]', '[]', NULL, 1002.0);
INSERT INTO lines VALUES (1, 1001.0, 'info', '1.2', NULL, NULL, 'a line');
