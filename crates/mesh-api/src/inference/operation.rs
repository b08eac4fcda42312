//! What a request asks of a model: a small closed set, fit for metric labels and policies.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request asks of a model or its server.
///
/// | operation | TensorFlow | Open Inference | KServe V1 | OpenAI and relatives | MLflow |
/// | --- | --- | --- | --- | --- | --- |
/// | `predict` | `:predict`, `Predict`, `SessionRun` | | `:predict` | | |
/// | `classify` | `:classify`, `Classify` | | | `moderations`, `classify` | |
/// | `regress` | `:regress`, `Regress` | | | | |
/// | `explain` | | | `:explain` | | |
/// | `infer` | `MultiInference` | `infer`, `infer_stream`, `ModelInfer`, `ModelStreamInfer` | | `pooling` | |
/// | `generate` | | `generate`, `generate_stream` | | `chat/completions`, `completions`, `responses`, `messages` | |
/// | `embed` | | | | `embeddings` | |
/// | `rerank` | | | | `rerank`, `score` | |
/// | `image` | | | | `images/*` | |
/// | `audio` | | | | `audio/*` | |
/// | `score` | | | | | `invocations` |
/// | `metadata` | status, `/metadata` | metadata, config, stats | listing | `models`, token counting | `/version` |
/// | `health` | | `ready`, `health/*` | readiness | `/health` | `/ping`, `/health` |
/// | `admin` | reload config | load, unload, shared memory, trace, logging | | adapters, sleep, deletion | |
/// | `other` | whatever else a model protocol's paths and services hold | | | | |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A prediction of a TensorFlow or KServe V1 model.
    Predict,
    /// A classification.
    Classify,
    /// A regression.
    Regress,
    /// An explanation of a prediction.
    Explain,
    /// An inference on tensors.
    Infer,
    /// Text generation, chat included.
    Generate,
    /// Embeddings.
    Embed,
    /// Ranking or scoring documents against a query.
    Rerank,
    /// Making or editing images.
    Image,
    /// Speech and transcription.
    Audio,
    /// A record scored by an MLflow-style server.
    Score,
    /// A description: metadata, configuration, statistics, lists of models.
    Metadata,
    /// Liveness and readiness, of a server or of a model.
    Health,
    /// Changing what a server serves; denied by default once an access policy selects the service.
    Admin,
    /// A model request of no known kind.
    Other,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 15] = [
        Self::Predict,
        Self::Classify,
        Self::Regress,
        Self::Explain,
        Self::Infer,
        Self::Generate,
        Self::Embed,
        Self::Rerank,
        Self::Image,
        Self::Audio,
        Self::Score,
        Self::Metadata,
        Self::Health,
        Self::Admin,
        Self::Other,
    ];

    /// The word used in documents, labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Classify => "classify",
            Self::Regress => "regress",
            Self::Explain => "explain",
            Self::Infer => "infer",
            Self::Generate => "generate",
            Self::Embed => "embed",
            Self::Rerank => "rerank",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Score => "score",
            Self::Metadata => "metadata",
            Self::Health => "health",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }

    /// Whether the operation runs a model, and so costs what models cost.
    pub const fn runs_model(self) -> bool {
        match self {
            Self::Predict
            | Self::Classify
            | Self::Regress
            | Self::Explain
            | Self::Infer
            | Self::Generate
            | Self::Embed
            | Self::Rerank
            | Self::Image
            | Self::Audio
            | Self::Score => true,
            Self::Metadata | Self::Health | Self::Admin | Self::Other => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown operation {0:?}: use one of predict, classify, regress, explain, infer, generate, embed, rerank, image, \
     audio, score, metadata, health, admin, other"
)]
pub struct UnknownOperation(String);

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == text)
            .ok_or_else(|| UnknownOperation(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_round_trip_everywhere() {
        for operation in Operation::ALL {
            assert_eq!(operation.as_str().parse(), Ok(operation));
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.as_str());
        }
        assert!("Predict".parse::<Operation>().is_err());
    }
}
