//! What the doctor found: one line a step, a verdict, and what to do.

use std::fmt;

use serde_json::{Value, json};

/// All that was found about an endpoint
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) endpoint: String,
    pub(super) steps: Vec<Step>,
    pub(super) verdict: Verdict,
    /// The verdict in a sentence
    pub(super) because: String,
    /// What to do about it; nothing when all is well
    pub(super) advice: Option<String>,
}

/// One thing that was looked at
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) good: bool,
    pub(super) text: String,
}

/// What it comes down to
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Fine,
    Unresolvable,
    Unreachable,
    /// The transport has no connections to examine
    NoConnection,
    Tls,
    NotZeromq,
    OtherVersion,
    OtherMechanism,
    WrongServerKey,
    Refused,
    IncompatibleType,
    /// Closed without a word
    Closed,
    Silent,
}

impl Verdict {
    /// A word for programs
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unresolvable => "unresolvable",
            Self::Unreachable => "unreachable",
            Self::NoConnection => "no-connection",
            Self::Tls => "tls",
            Self::NotZeromq => "not-zeromq",
            Self::OtherVersion => "other-version",
            Self::OtherMechanism => "other-mechanism",
            Self::WrongServerKey => "wrong-server-key",
            Self::Refused => "refused",
            Self::IncompatibleType => "incompatible-type",
            Self::Closed => "closed",
            Self::Silent => "silent",
        }
    }
}

impl Findings {
    pub(super) fn of(endpoint: String) -> Self {
        Self { endpoint, steps: Vec::new(), verdict: Verdict::Fine, because: String::new(), advice: None }
    }

    pub(super) fn good(&mut self, name: &'static str, text: impl fmt::Display) {
        self.steps.push(Step { name, good: true, text: text.to_string() });
    }

    pub(super) fn bad(&mut self, name: &'static str, text: impl fmt::Display) {
        self.steps.push(Step { name, good: false, text: text.to_string() });
    }

    /// The end of the examination
    pub(super) fn judge(
        mut self,
        verdict: Verdict,
        because: impl fmt::Display,
        advice: impl Into<Option<String>>,
    ) -> Self {
        self.verdict = verdict;
        self.because = because.to_string();
        self.advice = advice.into();
        self
    }

    pub(super) fn to_json(&self) -> Value {
        let steps: Vec<Value> =
            self.steps.iter().map(|step| json!({ "step": step.name, "ok": step.good, "text": step.text })).collect();
        json!({
            "ok": self.verdict == Verdict::Fine, "endpoint": self.endpoint, "verdict": self.verdict.name(),
            "because": self.because, "advice": self.advice, "steps": steps,
        })
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.endpoint)?;
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or_default();
        for step in &self.steps {
            let mark = if step.good { "ok" } else { "--" };
            writeln!(f, "  {mark}  {:<width$}  {}", step.name, step.text)?;
        }
        writeln!(f, "{}: {}", self.verdict.name(), self.because)?;
        match &self.advice {
            Some(advice) => writeln!(f, "  do: {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_lines_and_programs_an_object() {
        let mut findings = Findings::of("tcp://a:1".to_owned());
        findings.good("connection", "in 1 ms");
        findings.bad("greeting", "it says \"HTTP/1.1\"");
        let findings = findings.judge(Verdict::NotZeromq, "it is an HTTP server", "look for another port".to_owned());
        assert_eq!(
            findings.to_string(),
            "tcp://a:1\n  ok  connection  in 1 ms\n  --  greeting    it says \"HTTP/1.1\"\n\
             not-zeromq: it is an HTTP server\n  do: look for another port\n"
        );
        let json = findings.to_json();
        assert_eq!((json["ok"].as_bool(), json["verdict"].as_str()), (Some(false), Some("not-zeromq")));
        assert_eq!(json["steps"][1]["ok"], false);
    }
}
