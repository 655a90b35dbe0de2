//! `tidings gossip graph`: the network as a picture, or as a table.

mod picture;
mod placing;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::node::NodeArgs;
use crate::cli::output::escape;
use crate::cli::{Exit, Failure, Talk, printed, table};

/// What `gossip graph` is given
#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    /// Write the picture to FILE rather than to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// As a picture, or as a table; without it a picture, unless standard output is a terminal
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<Form>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What the network is shown as
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    Svg,
    Text,
}

/// Who is in the network, and who is connected with whom
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Spot>,
    /// Pairs of places in `nodes`, each pair once, with the best of what both ends say of it
    pub(super) links: Vec<(usize, usize, Role)>,
}

/// One node of the picture
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot {
    /// Sixteen digits; of a peer that speaks zgossip whatever is told of it
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: State,
    /// The node that was asked
    pub(super) is_asked: bool,
}

/// What is believed of a node
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Up,
    Suspect,
    /// Taken for dead, or has said goodbye
    Gone,
    /// A peer that speaks zgossip only: nobody watches those
    Foreign,
}

/// What a link is for, the best first
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Role {
    /// Changes go over it at once
    Tree,
    /// Changes are announced over it
    Lazy,
    /// What is known is compared now and then
    Resting,
    /// Of others, who don't say
    Known,
    /// To a peer that speaks zgossip only
    Foreign,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
            Self::Foreign => "zgossip",
        }
    }

    fn of(node: &Value) -> Self {
        match node["status"].as_str() {
            Some("zgossip") => Self::Foreign,
            Some("suspect") => Self::Suspect,
            Some("gone" | "left" | "forgotten") => Self::Gone,
            _ => Self::Up,
        }
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Lazy => "lazy",
            Self::Resting => "resting",
            Self::Known => "linked",
            Self::Foreign => "zgossip",
        }
    }

    /// Of a link of the node that was asked
    fn of(peer: &Value) -> Self {
        match (peer["wire"].as_str(), peer["role"].as_str()) {
            (Some("zgossip"), _) => Self::Foreign,
            // What is not proven yet is used as if it were
            (_, Some("tree" | "unproven")) => Self::Tree,
            (_, Some("lazy")) => Self::Lazy,
            (_, Some("resting")) => Self::Resting,
            _ => Self::Known,
        }
    }
}

impl Graph {
    /// From what a node answers to GRAPH, and to PEERS for what its own links are for
    pub(super) fn read(answer: &Value, peers: &Value) -> Self {
        let mut asked = None;
        let mut nodes: BTreeMap<&str, Spot> = BTreeMap::new();
        for node in answer["nodes"].as_array().into_iter().flatten() {
            let Some(id) = node["id"].as_str() else { continue };
            let is_asked = node["own"] == true;
            if is_asked {
                asked = Some(id);
            }
            let name = node["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(id).to_owned();
            nodes.insert(id, Spot { id: id.to_owned(), name, state: State::of(node), is_asked });
        }
        let mut roles: BTreeMap<&str, Role> = BTreeMap::new();
        for peer in peers.as_array().into_iter().flatten() {
            let id = peer["node"].as_str().filter(|id| !id.is_empty()).or(peer["endpoint"].as_str());
            if let Some(id) = id {
                let role = Role::of(peer);
                roles.entry(id).and_modify(|known| *known = role.min(*known)).or_insert(role);
            }
        }
        let places: BTreeMap<&str, usize> = nodes.keys().enumerate().map(|(place, id)| (*id, place)).collect();
        let mut links: BTreeMap<(usize, usize), Role> = BTreeMap::new();
        for edge in answer["edges"].as_array().into_iter().flatten() {
            let (Some(from), Some(to)) = (edge[0].as_str(), edge[1].as_str()) else { continue };
            let (Some(one), Some(other)) = (places.get(from), places.get(to)) else { continue };
            let far = if asked == Some(from) { to } else { from };
            let is_own = asked == Some(from) || asked == Some(to);
            let foreign = [from, to].iter().any(|id| nodes.get(id).is_some_and(|spot| spot.state == State::Foreign));
            let role = match roles.get(far).filter(|_| is_own) {
                Some(role) => *role,
                None if foreign => Role::Foreign,
                None => Role::Known,
            };
            if one != other {
                links.insert((*one.min(other), *one.max(other)), role);
            }
        }
        let links = links.into_iter().map(|((one, other), role)| (one, other, role)).collect();
        Self { nodes: nodes.into_values().collect(), links }
    }

    /// Who is connected with whom, a line for each node
    fn to_text(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(place, spot)| {
                let mut near: Vec<(Role, &str)> = self
                    .links
                    .iter()
                    .filter_map(|(from, to, role)| match (*from == place, *to == place) {
                        (true, _) => Some((*role, self.nodes.get(*to)?.name.as_str())),
                        (_, true) => Some((*role, self.nodes.get(*from)?.name.as_str())),
                        _ => None,
                    })
                    .collect();
                near.sort_unstable();
                let near: Vec<String> =
                    near.iter().map(|(role, name)| format!("{} ({})", escape(name.as_bytes()), role.name())).collect();
                let mark = if spot.is_asked { " *" } else { "" };
                let near = if near.is_empty() { "-".to_owned() } else { near.join(", ") };
                vec![format!("{}{mark}", escape(spot.name.as_bytes())), spot.state.name().to_owned(), near]
            })
            .collect();
        table::layout(&["NODE", "STATE", "LINKS"], &rows)
    }

    fn to_json(&self) -> Value {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|spot| json!({ "id": spot.id, "name": spot.name, "state": spot.state.name(), "asked": spot.is_asked }))
            .collect();
        let id = |place: usize| self.nodes.get(place).map(|spot| spot.id.as_str());
        let links: Vec<Value> = self
            .links
            .iter()
            .map(|(from, to, role)| json!({ "from": id(*from), "to": id(*to), "kind": role.name() }))
            .collect();
        json!({ "ok": true, "nodes": nodes, "links": links })
    }
}

/// `tidings gossip graph`
///
/// # Errors
/// No node (3), not permitted (4), a file that can't be written (2).
pub(super) async fn run(args: GraphArgs, talk: Talk) -> Result<(), Failure> {
    let mut node = args.node.open(talk).await?;
    let (answer, peers) = (node.look("GRAPH").await?, node.look("PEERS").await?);
    let graph = Graph::read(&answer, &peers);
    if graph.nodes.is_empty() {
        return Err(Failure::new(
            Exit::Negative,
            "no-graph",
            "the node knows no network: it watches its neighbours only",
        )
        .hint("`tidings gossip peers` shows these; with gossip.presence = \"all\" there is a graph"));
    }
    let form = args.form.unwrap_or_else(|| match args.output.is_none() && std::io::stdout().is_terminal() {
        true => Form::Text,
        false => Form::Svg,
    });
    let text = match form {
        _ if talk.json && args.output.is_none() => graph.to_json().to_string(),
        Form::Text => graph.to_text(),
        Form::Svg => picture::svg(&graph),
    };
    match &args.output {
        None => printed(talk.data(text.trim_end())).map(drop),
        Some(path) => {
            std::fs::write(path, format!("{}\n", text.trim_end()))
                .map_err(|error| Failure::usage(format!("can't write '{}': {error}", path.display())))?;
            let (nodes, links) = (graph.nodes.len(), graph.links.len());
            if talk.json {
                let summary = json!({ "ok": true, "output": path, "nodes": nodes, "links": links });
                return printed(talk.data(summary)).map(drop);
            }
            talk.say(format_args!("written: {}; {nodes} nodes, {links} links", path.display()));
            Ok(())
        }
    }
}

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings gossip graph -o network.svg
  tidings gossip graph --form text
  tidings gossip graph --json | jq '.nodes[] | select(.state != \"up\")'";

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let answer = json!({
            "nodes": [
                { "id": "0a", "name": "alpha", "status": "up", "own": true },
                { "id": "0b", "name": "beta", "status": "suspect", "own": false },
                { "id": "0c", "name": "\u{1b}gamma", "status": "gone", "own": false },
                { "id": "0d", "name": "", "status": "up", "own": false },
                { "id": "192.0.2.1:5670", "name": "", "status": "zgossip", "own": false },
            ],
            "edges": [["0a", "0b"], ["0b", "0a"], ["0a", "192.0.2.1:5670"], ["0b", "0d"], ["0b", "0b"], ["0b", "ff"], [3]],
        });
        let peers = json!([
            { "node": "0b", "role": "lazy", "wire": "tidings", "endpoint": "x" },
            { "node": "", "role": "connected", "wire": "zgossip", "endpoint": "192.0.2.1:5670" },
        ]);
        Graph::read(&answer, &peers)
    }

    #[test]
    fn each_pair_is_there_once() {
        let graph = graph();
        let names: Vec<&str> = graph.nodes.iter().map(|spot| spot.name.as_str()).collect();
        assert_eq!(names, ["alpha", "beta", "\u{1b}gamma", "0d", "192.0.2.1:5670"]);
        assert_eq!(graph.links, [(0, 1, Role::Lazy), (0, 4, Role::Foreign), (1, 3, Role::Known)]);
        assert!(graph.nodes[0].is_asked && graph.nodes[2].state == State::Gone);
        assert_eq!(Graph::read(&json!({ "nodes": 3 }), &json!(null)), Graph::default());
    }

    #[test]
    fn the_table_has_a_line_for_each_node() {
        let text = graph().to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(
            lines[1].starts_with("alpha *") && lines[1].ends_with("beta (lazy), 192.0.2.1:5670 (zgossip)"),
            "{text}"
        );
        assert!(lines[3].starts_with("\\x1bgamma") && lines[3].ends_with('-'), "{text}");
    }
}
