//! `--agent [NAME=]COMMAND`: how an agent is started, and what it is called.

use std::process::{Command, Stdio};

/// A command line, split as a shell would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCommand {
    pub name: String,
    words: Vec<String>,
}

impl AgentCommand {
    /// Without a name it is called by what stands before the program, such as a host: `bench-2` of `ssh bench-2 tidegate load
    /// agent`.
    ///
    /// # Errors
    /// An open quote, or nothing at all.
    pub fn new(text: &str) -> Result<AgentCommand, String> {
        let words =
            shlex::split(text).ok_or_else(|| format!("--agent `{text}`: a quote is not closed"))?;
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-_.:".contains(c))
        };
        let (name, words) = match words.first().and_then(|first| first.split_once('=')) {
            Some((name, first)) if is_name(name) => {
                let first = (!first.is_empty()).then(|| first.to_owned());
                let name = name.to_owned();
                (
                    Some(name),
                    first
                        .into_iter()
                        .chain(words[1..].iter().cloned())
                        .collect(),
                )
            }
            _ => (None, words),
        };
        if words.is_empty() {
            return Err(
                "--agent names no command: e.g. 'ssh bench-2 tidegate load agent'".to_owned(),
            );
        }
        Ok(AgentCommand {
            name: name.unwrap_or_else(|| host(&words)),
            words,
        })
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// The last word before the program that is our own, options apart.
fn host(words: &[String]) -> String {
    let program = words
        .windows(2)
        .position(|pair| pair[0] == "load" && pair[1] == "agent");
    let before = program
        .and_then(|load| words.get(..load.checked_sub(1)?))
        .unwrap_or_default();
    let host = before.iter().rev().find(|word| !word.starts_with('-'));
    host.cloned().unwrap_or_else(|| "agent".to_owned())
}

/// Names that are there more than once get numbers.
pub fn distinct(commands: &mut [AgentCommand]) {
    for at in 0..commands.len() {
        let same = |name: &str, commands: &[AgentCommand]| {
            commands[..at].iter().any(|known| known.name == name)
        };
        let (name, mut number) = (commands[at].name.clone(), 2);
        while same(&commands[at].name, commands) {
            commands[at].name = format!("{name}-{number}");
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> (String, Vec<String>) {
        let AgentCommand { name, words } = AgentCommand::new(text).unwrap();
        (name, words)
    }

    #[test]
    fn agents_are_called_by_their_host() {
        assert_eq!(named("ssh bench-2 tidegate load agent").0, "bench-2");
        assert_eq!(
            named("ssh -p 22 -T root@bench-2 /opt/tidegate load agent").0,
            "root@bench-2"
        );
        assert_eq!(named("ip netns exec c1 tidegate load agent").0, "c1");
        assert_eq!(named("tidegate load agent").0, "agent");
        assert_eq!(named("anything else").0, "agent");
        let (name, words) = named("near=tidegate load agent");
        assert_eq!(
            (name.as_str(), words.len(), words[0].as_str()),
            ("near", 3, "tidegate")
        );
        // What is no name is part of the command.
        assert_eq!(
            named("/opt/a=b/tidegate load agent").1[0],
            "/opt/a=b/tidegate"
        );
    }

    #[test]
    fn commands_are_split_as_a_shell_does() {
        assert_eq!(
            named("ssh b 'cd /tmp && tidegate load agent'").1,
            ["ssh", "b", "cd /tmp && tidegate load agent"]
        );
        assert!(AgentCommand::new("ssh 'b").unwrap_err().contains("quote"));
        assert!(AgentCommand::new("  ").is_err() && AgentCommand::new("a=").is_err());
    }

    #[test]
    fn equal_names_get_numbers() {
        let mut commands: Vec<_> = ["x=a", "x=b", "x-2=c", "x=d"]
            .map(|text| AgentCommand::new(text).unwrap())
            .into();
        distinct(&mut commands);
        let names: Vec<_> = commands
            .iter()
            .map(|command| command.name.as_str())
            .collect();
        assert_eq!(names, ["x", "x-2", "x-2-2", "x-3"]);
    }
}
