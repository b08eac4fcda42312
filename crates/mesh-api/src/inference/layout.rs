//! Where the messages of model services name model and version: the few fields of their schemas that matter here.

/// Which fields of a message are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// None: the message names no model.
    Unnamed,
    /// `model_spec` = 1 (TensorFlow Serving).
    Spec,
    /// `tasks` = 1, each with `model_spec` = 1 (TensorFlow Serving's `MultiInference`).
    Tasks,
    /// Name = 1, version = 2, both strings (Open Inference).
    Strings,
    /// Name = 1 (KServe) or name = 2 (Triton, where 1 is the repository): loading and unloading a model.
    Repository,
}

/// A message whose fields are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Root(Layout),
    Task,
    Spec,
    Int64,
}

/// What to do with a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    None,
    Enter(Shape),
    Capture(Text),
    Number,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Name,
    Version,
    Label,
}

impl Shape {
    /// What to do with a field of that number.
    pub(super) const fn interest(self, number: u32) -> Interest {
        match (self, number) {
            (Self::Root(Layout::Spec) | Self::Task, 1) => Interest::Enter(Self::Spec),
            (Self::Root(Layout::Tasks), 1) => Interest::Enter(Self::Task),
            (Self::Root(Layout::Strings | Layout::Repository) | Self::Spec, 1)
            | (Self::Root(Layout::Repository), 2) => Interest::Capture(Text::Name),
            (Self::Root(Layout::Strings), 2) => Interest::Capture(Text::Version),
            (Self::Spec, 2) => Interest::Enter(Self::Int64),
            (Self::Spec, 4) => Interest::Capture(Text::Label),
            (Self::Int64, 1) => Interest::Number,
            _ => Interest::None,
        }
    }

    /// The highest field number of interest.
    pub(super) const fn last(self) -> u32 {
        match self {
            Self::Root(Layout::Unnamed) => 0,
            Self::Root(Layout::Spec | Layout::Tasks) | Self::Task | Self::Int64 => 1,
            Self::Root(Layout::Strings | Layout::Repository) => 2,
            Self::Spec => 4,
        }
    }
}
