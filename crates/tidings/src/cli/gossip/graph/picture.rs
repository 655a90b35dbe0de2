//! The network as SVG: nodes with their names, links by what they are for, what is gone with dashes.

use std::fmt::Write as _;

use super::placing::place;
use super::{Graph, Role, State};

/// The picture, with a legend
pub(super) fn svg(graph: &Graph) -> String {
    let links: Vec<(usize, usize)> = graph.links.iter().map(|(from, to, _)| (*from, *to)).collect();
    let (mut points, (width, height)) = place(graph.nodes.len(), &links, GAP);
    // Names stick out on both sides, and the legend has a row of its own
    let (full_width, full_height) = ((width + 2.0 * MARGIN).max(LEGEND_WIDTH), height + 2.0 * MARGIN + LEGEND_HEIGHT);
    let shift = (full_width - width) / 2.0;
    for point in &mut points {
        *point = (point.0 + shift, point.1 + MARGIN);
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full_width:.0} {full_height:.0}\" width=\"{full_width:.0}\" \
         height=\"{full_height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n",
        title(graph)
    );
    for (from, to, role) in &graph.links {
        let (Some(a), Some(b)) = (points.get(*from), points.get(*to)) else { continue };
        let (Some(one), Some(other)) = (graph.nodes.get(*from), graph.nodes.get(*to)) else { continue };
        let is_over = one.state == State::Gone || other.state == State::Gone;
        let class = if is_over { "link over" } else { class_of(*role) };
        _ = writeln!(
            text,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"><title>{} – {}: {}</title></line>",
            a.0,
            a.1,
            b.0,
            b.1,
            xml(&one.name),
            xml(&other.name),
            role.name()
        );
    }
    for (spot, (x, y)) in graph.nodes.iter().zip(&points) {
        let class = state_class(spot.state);
        _ = write!(text, "<g><title>{} {}, {}</title>", xml(&spot.name), xml(&spot.id), spot.state.name());
        if spot.is_asked {
            _ = write!(text, "<circle class=\"asked\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"14\"/>");
        }
        text.push_str(&shape(spot.state, class, *x, *y));
        _ = writeln!(
            text,
            "<text class=\"name\" x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>",
            y + 24.0,
            xml(&shortened(&spot.name))
        );
    }
    legend(&mut text, graph, full_height - LEGEND_HEIGHT / 2.0);
    text.push_str("</svg>\n");
    text
}

fn title(graph: &Graph) -> String {
    let foreign = graph.nodes.iter().filter(|spot| spot.state == State::Foreign).count();
    let gone = graph.nodes.iter().filter(|spot| spot.state == State::Gone).count();
    format!("{} nodes, {foreign} of them of zgossip, {gone} gone; {} links", graph.nodes.len(), graph.links.len())
}

fn shape(state: State, class: &str, x: f64, y: f64) -> String {
    match state {
        State::Foreign => {
            format!(
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"17\" height=\"17\" rx=\"2\"/>",
                x - 8.5,
                y - 8.5
            )
        }
        _ => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"9.5\"/>"),
    }
}

fn class_of(role: Role) -> &'static str {
    match role {
        Role::Tree => "link tree",
        Role::Lazy => "link lazy",
        Role::Resting => "link resting",
        Role::Known => "link known",
        Role::Foreign => "link foreign",
    }
}

fn state_class(state: State) -> &'static str {
    match state {
        State::Up => "node up",
        State::Suspect => "node suspect",
        State::Gone => "node gone",
        State::Foreign => "node zgossip",
    }
}

/// What the signs mean, as far as they are there
fn legend(text: &mut String, graph: &Graph, y: f64) {
    let mut x = 16.0;
    for state in [State::Up, State::Suspect, State::Gone, State::Foreign] {
        if graph.nodes.iter().any(|spot| spot.state == state) {
            text.push_str(&shape(state, state_class(state), x + 8.0, y));
            x = label(text, x + 24.0, y, state.name());
        }
    }
    for role in [Role::Tree, Role::Lazy, Role::Resting, Role::Known, Role::Foreign] {
        if graph.links.iter().any(|(_, _, known)| *known == role) {
            _ = write!(
                text,
                "<line class=\"{}\" x1=\"{x:.0}\" y1=\"{y:.0}\" x2=\"{:.0}\" y2=\"{y:.0}\"/>",
                class_of(role),
                x + 26.0
            );
            x = label(text, x + 32.0, y, role.name());
        }
    }
    text.push('\n');
}

fn label(text: &mut String, x: f64, y: f64, word: &str) -> f64 {
    _ = write!(text, "<text x=\"{x:.0}\" y=\"{:.0}\">{word}</text>", y + 4.0);
    x + 8.0 * word.len() as f64 + 12.0
}

/// Names are peers': what XML or a reader can't take is replaced
fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            character if character.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            character => safe.push(character),
        }
    }
    safe
}

/// The beginning and the end of a long name
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= LONGEST_NAME {
        return name.to_owned();
    }
    let begin: String = name.chars().take(LONGEST_NAME / 2).collect();
    let end: String = name.chars().skip(count - LONGEST_NAME / 2 + 1).collect();
    format!("{begin}…{end}")
}

/// Between neighbours
const GAP: f64 = 120.0;
const MARGIN: f64 = 60.0;
const LEGEND_HEIGHT: f64 = 36.0;
const LEGEND_WIDTH: f64 = 560.0;
const LONGEST_NAME: usize = 20;

const STYLE: &str = "\
.paper{fill:#fff}text{fill:#222}.name{text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:3px}\
.node{stroke:#fff;stroke-width:1.5}.up{fill:#3b7dd8}.suspect{fill:#e8a317}.gone{fill:#fff;stroke:#888;stroke-dasharray:3 3}\
.zgossip{fill:#7a5ea8}.asked{fill:none;stroke:#3b7dd8;stroke-width:1.5}.link{stroke:#3b7dd8;stroke-width:2.2}\
.known{stroke:#8aa2c4;stroke-width:1.4}.lazy{stroke:#9ab6dc;stroke-width:1.2}.resting{stroke:#bbb;stroke-width:1;stroke-dasharray:1 4}\
.foreign{stroke:#7a5ea8;stroke-width:1.6;stroke-dasharray:7 3}.over{stroke:#ccc;stroke-width:1;stroke-dasharray:4 4}\
@media(prefers-color-scheme:dark){.paper{fill:#16181d}text{fill:#ddd}.name{stroke:#16181d}.node{stroke:#16181d}.gone{fill:#16181d;stroke:#888}}";

#[cfg(test)]
mod tests {
    use super::super::Spot;
    use super::*;

    fn spot(name: &str, state: State) -> Spot {
        Spot { id: format!("id-{name}"), name: name.to_owned(), state, is_asked: name == "alpha" }
    }

    #[test]
    fn every_node_and_link_is_in_the_picture() {
        let graph = Graph {
            nodes: vec![
                spot("alpha", State::Up),
                spot("<beta> & \"co\"\u{7}", State::Suspect),
                spot("gamma", State::Gone),
                spot("czmq", State::Foreign),
            ],
            links: vec![(0, 1, Role::Tree), (0, 2, Role::Lazy), (0, 3, Role::Foreign)],
        };
        let svg = svg(&graph);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        for part in [
            "&lt;beta&gt; &amp; &quot;co&quot;\u{fffd}",
            "<title>4 nodes, 1 of them of zgossip, 1 gone; 3 links</title>",
            "class=\"link tree\"",
            "class=\"link over\"",
            "class=\"link foreign\"",
            "class=\"asked\"",
            "class=\"node gone\"",
            ">gamma</text>",
        ] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert!(!svg.contains("<beta>") && !svg.contains('\u{7}'));
    }

    #[test]
    fn sixty_nodes_fit_a_screen() {
        let nodes: Vec<Spot> = (0..60).map(|number| spot(&format!("node-{number:02}"), State::Up)).collect();
        let links = (0..60)
            .flat_map(|node| [(node, (node + 1) % 60, Role::Tree), (node, (node + 17) % 60, Role::Lazy)])
            .collect();
        let svg = svg(&Graph { nodes, links });
        let size = |name: &str| -> f64 {
            let rest = svg.split_once(&format!(" {name}=\"")).unwrap().1;
            rest.split('"').next().unwrap().parse().unwrap()
        };
        assert!(size("width") < 2000.0 && size("height") < 2000.0, "{} × {}", size("width"), size("height"));
        assert_eq!(svg.matches("class=\"name\"").count(), 60);
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("node-1"), "node-1");
        assert_eq!(shortened("tcp://192.0.2.117:56701").chars().count(), LONGEST_NAME);
        assert!(shortened("tcp://192.0.2.117:56701").ends_with("7:56701"));
    }
}
