//! Text with styles: what is shown, how wide it is, and never a meaning in the colour alone.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// As the terminal has it.
    #[default]
    Plain,
    /// Headers, names.
    Strong,
    /// What is of less weight.
    Faint,
    /// Well.
    Good,
    /// To be looked at.
    Warn,
    /// Wrong.
    Bad,
    /// One of six colours that tell names apart.
    Name(u8),
}

impl Style {
    fn ansi(self) -> anstyle::Style {
        use anstyle::{AnsiColor, Style};
        const NAMES: [AnsiColor; 6] = [
            AnsiColor::Cyan,
            AnsiColor::Magenta,
            AnsiColor::Blue,
            AnsiColor::Green,
            AnsiColor::Yellow,
            AnsiColor::BrightBlue,
        ];
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => colour(AnsiColor::Green),
            Self::Warn => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red).bold(),
            Self::Name(index) => colour(NAMES[usize::from(index) % NAMES.len()]),
        }
    }
}

/// Pieces of styled text in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(Vec<(Style, String)>);

impl Text {
    /// One piece.
    pub(crate) fn styled(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, visible(text.into()))])
    }

    /// With one more piece.
    #[must_use]
    pub(crate) fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, visible(text.into())));
        self
    }

    /// With more plain text.
    #[must_use]
    pub(crate) fn plain(self, text: impl Into<String>) -> Self {
        self.and(Style::Plain, text)
    }

    /// With all pieces of another.
    #[must_use]
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// How many columns of a terminal it takes.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// Cut to at most `width` columns, with `…` where something is left out.
    pub(crate) fn cut(&self, width: usize) -> Self {
        if self.width() <= width {
            return self.clone();
        }
        let (mut left, mut pieces) = (width.saturating_sub(1), Vec::new());
        for (style, text) in &self.0 {
            let mut kept = String::new();
            for letter in text.chars() {
                let wide = letter.width().unwrap_or(0);
                if wide > left {
                    left = 0;
                    break;
                }
                left -= wide;
                kept.push(letter);
            }
            pieces.push((*style, kept));
            if left == 0 {
                break;
            }
        }
        Self(pieces).plain("…")
    }

    /// As a terminal reads it; [`Printer`](super::Printer) takes the styles away where there is none.
    pub(crate) fn ansi(&self) -> String {
        let mut out = String::new();
        for (style, text) in &self.0 {
            if *style == Style::Plain {
                out.push_str(text);
            } else {
                let style = style.ansi();
                // Writing to a String can't fail.
                let _ = write!(out, "{style}{text}{style:#}");
            }
        }
        out
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::styled(Style::Plain, text)
    }
}

/// Names and reasons come from others: no control character of theirs reaches a terminal.
fn visible(text: String) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
            .collect()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_columns_and_not_at_bytes() {
        let text = Text::from("größe").and(Style::Bad, "模型x");
        assert_eq!(text.width(), 10);
        for (width, expected) in [
            (10, "größe模型x"),
            (9, "größe模…"),
            (7, "größe…"),
            (3, "gr…"),
            (1, "…"),
        ] {
            let cut = text.cut(width);
            assert!(cut.width() <= width, "{width}");
            let plain: String = cut.0.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(plain, expected);
        }
    }

    #[test]
    fn foreign_escapes_never_reach_the_terminal() {
        let text = Text::from("\u{1b}[31mred\u{7}\n").ansi();
        assert_eq!(text, "\u{fffd}[31mred\u{fffd}\u{fffd}");
    }
}
