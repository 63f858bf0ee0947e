//! The JSON Schemas of what the lab's commands print.

use mose_console::documents::{Document, schema_of};
use schemars::Schema;
use serde_json::{Map, Value};

use crate::documents;

/// The schema of a document, if it is one of the lab's.
#[must_use]
pub fn of(document: Document) -> Option<Schema> {
    Some(match document {
        Document::Calibrate => schema_of::<Vec<documents::Fitted>>(),
        Document::LabStatus => schema_of::<mose_lab::Status>(),
        Document::LabDown => schema_of::<mose_lab::DownReport>(),
        Document::LabLaps => schema_of::<documents::Laps>(),
        Document::LabConnections => schema_of::<documents::Connections>(),
        Document::LabTargets => schema_of::<documents::Promises>(),
        Document::LabRounds => schema_of::<documents::RulesRun>(),
        Document::LabStrategies => schema_of::<documents::Strategies>(),
        Document::LabVolumes => schema_of::<documents::Volumes>(),
        Document::LabRehearsals => schema_of::<documents::Rehearsals>(),
        Document::LabServices => schema_of::<documents::Trials>(),
        Document::LabProfiling => schema_of::<documents::Profiling>(),
        Document::LabBaseline => schema_of::<documents::Comparison>(),
        Document::LabBaselineAgainst => schema_of::<documents::Against>(),
        Document::LabFaults => schema_of::<documents::FaultTable>(),
        Document::LabSoak => schema_of::<documents::Soak>(),
        Document::LabPaperTable3 => schema_of::<documents::Table3>(),
        Document::LabUav => schema_of::<documents::UavRun>(),
        Document::LabUnmovable => schema_of::<documents::Unmovable>(),
        _ => return None,
    })
}

/// All of them, by the documents' names.
#[must_use]
pub fn all() -> Map<String, Value> {
    Document::each().filter_map(|document| Some((document.name(), of(document)?.to_value()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_described_by_one_program_and_no_more() {
        for document in Document::each() {
            assert_ne!(document.schema().is_some(), of(document).is_some(), "{}", document.name());
        }
    }
}
