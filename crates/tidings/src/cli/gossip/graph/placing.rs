//! Where the nodes of a picture stand: those with a link pull each other, all others push (Fruchterman and Reingold,
//! "Graph Drawing by Force-directed Placement", 1991). The same graph always gives the same picture.

/// A point of the plane, in the picture's units
pub(super) type Point = (f64, f64);

/// Places for so many nodes, `gap` apart where there is room; the first corner is (0, 0). Also the width and height of all
///
/// Those without a link stand in rows beneath the others.
pub(super) fn place(nodes: usize, links: &[(usize, usize)], gap: f64) -> (Vec<Point>, Point) {
    let mut linked = vec![false; nodes];
    for node in links.iter().flat_map(|(from, to)| [*from, *to]) {
        if let Some(linked) = linked.get_mut(node) {
            *linked = true;
        }
    }
    let mut numbers = vec![0; nodes];
    let mut count = 0;
    for (number, _) in numbers.iter_mut().zip(&linked).filter(|(_, linked)| **linked) {
        *number = count;
        count += 1;
    }
    let number = |node: usize| numbers.get(node).copied().unwrap_or_default();
    let links: Vec<(usize, usize)> = links.iter().map(|(from, to)| (number(*from), number(*to))).collect();
    let (points, (mut width, mut height)) = place_linked(count, &links, gap);
    let alone = nodes - count;
    let row = ((width / gap) as usize + 1).max((alone as f64).sqrt().ceil() as usize).max(4);
    let below = if count > 0 { height + gap } else { 0.0 };
    let (mut points, mut lonely) = (points.into_iter(), 0);
    let placed = linked
        .iter()
        .map(|linked| match linked {
            true => points.next().unwrap_or_default(),
            false => {
                let point = ((lonely % row) as f64 * gap, below + (lonely / row) as f64 * gap);
                lonely += 1;
                (width, height) = (width.max(point.0), height.max(point.1));
                point
            }
        })
        .collect();
    (placed, (width, height))
}

fn place_linked(nodes: usize, links: &[(usize, usize)], gap: f64) -> (Vec<Point>, Point) {
    let mut points = spiral(nodes, gap);
    let mut heat = gap * (nodes as f64).sqrt() / 2.0;
    let rounds = rounds(nodes);
    let cooling = (0.5 / heat.max(1.0)).powf(1.0 / rounds.max(1) as f64);
    for _ in 0..rounds {
        let pushes = forces(&points, links, gap);
        for (point, (dx, dy)) in points.iter_mut().zip(pushes) {
            let length = dx.hypot(dy).max(1e-9);
            let step = length.min(heat);
            point.0 += dx / length * step;
            point.1 += dy / length * step;
        }
        heat *= cooling;
    }
    if nodes <= MOST_SEPARATED {
        separate(&mut points, gap * 0.62);
    }
    if points.is_empty() {
        return (points, (0.0, 0.0));
    }
    let least = points.iter().fold((f64::MAX, f64::MAX), |least, point| (least.0.min(point.0), least.1.min(point.1)));
    for point in &mut points {
        *point = (point.0 - least.0, point.1 - least.1);
    }
    let most = points.iter().fold((0.0, 0.0), |most: Point, point| (most.0.max(point.0), most.1.max(point.1)));
    (points, most)
}

/// A sunflower: evenly spread, and without the symmetry that a circle would never get out of
fn spiral(nodes: usize, gap: f64) -> Vec<Point> {
    (0..nodes)
        .map(|number| {
            let (radius, angle) = (gap * (number as f64 + 0.5).sqrt() * 0.6, number as f64 * GOLDEN_ANGLE);
            (radius * angle.cos(), radius * angle.sin())
        })
        .collect()
}

fn forces(points: &[Point], links: &[(usize, usize)], gap: f64) -> Vec<Point> {
    let mut forces = vec![(0.0, 0.0); points.len()];
    for (one, a) in points.iter().enumerate() {
        let mut sum = (0.0, 0.0);
        for (other, b) in points.iter().enumerate() {
            if one == other {
                continue;
            }
            let (dx, dy) = (a.0 - b.0, a.1 - b.1);
            let square = (dx * dx + dy * dy).max(0.01);
            // k² / distance, along the unit vector
            sum.0 += dx * gap * gap / square;
            sum.1 += dy * gap * gap / square;
        }
        // Parts without a link between them stay in the picture
        if let Some(force) = forces.get_mut(one) {
            *force = (sum.0 - a.0 * GRAVITY, sum.1 - a.1 * GRAVITY);
        }
    }
    for (from, to) in links {
        let (Some(a), Some(b)) = (points.get(*from), points.get(*to)) else { continue };
        let (dx, dy) = (a.0 - b.0, a.1 - b.1);
        let pull = dx.hypot(dy) / gap;
        for (node, sign) in [(*from, -1.0), (*to, 1.0)] {
            if let Some(force) = forces.get_mut(node) {
                force.0 += sign * dx * pull;
                force.1 += sign * dy * pull;
            }
        }
    }
    forces
}

/// Moves apart what stands closer than `least`, so that names don't cover each other
fn separate(points: &mut [Point], least: f64) {
    for _ in 0..SEPARATIONS {
        let mut moved = false;
        for one in 1..points.len() {
            let (before, after) = points.split_at_mut(one);
            let Some(b) = after.first_mut() else { continue };
            for a in before {
                // Names are wider than they are high
                let (dx, dy) = (b.0 - a.0, (b.1 - a.1) * 1.4);
                let distance = dx.hypot(dy);
                if distance < least {
                    let (ux, uy) = if distance > 1e-6 { (dx / distance, dy / distance) } else { (1.0, 0.0) };
                    let shift = (least - distance) / 2.0 + 0.1;
                    a.0 -= ux * shift;
                    a.1 -= uy * shift;
                    b.0 += ux * shift;
                    b.1 += uy * shift;
                    moved = true;
                }
            }
        }
        if !moved {
            return;
        }
    }
}

/// Each takes time that grows with the square of the nodes
fn rounds(nodes: usize) -> usize {
    match nodes {
        0..=1 => 0,
        2..=200 => 400,
        201..=1000 => 120,
        1001..=4000 => 20,
        // A sunflower is all that can be read there
        _ => 0,
    }
}

/// π (3 - √5)
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;

/// Small beside what links and neighbours do; tried out by eye on rings, stars, meshes and two parts
const GRAVITY: f64 = 0.35;

const SEPARATIONS: usize = 200;

/// Beyond this names are left to a magnifier
const MOST_SEPARATED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(points: &[Point]) -> f64 {
        let mut least = f64::MAX;
        for (one, a) in points.iter().enumerate() {
            for b in points.iter().skip(one + 1) {
                least = least.min((a.0 - b.0).hypot(a.1 - b.1));
            }
        }
        least
    }

    fn ring(nodes: usize) -> Vec<(usize, usize)> {
        (0..nodes).map(|node| (node, (node + 1) % nodes)).collect()
    }

    #[test]
    fn nobody_stands_on_anybody() {
        let star: Vec<_> = (1..60).map(|node| (0, node)).collect();
        let mesh: Vec<_> =
            (0..60).flat_map(|a| (a + 1..60).map(move |b| (a, b))).filter(|(a, b)| (a * 7 + b) % 5 == 0).collect();
        for (nodes, links) in
            [(1, vec![]), (2, vec![(0, 1)]), (3, ring(3)), (60, ring(60)), (60, star), (60, mesh), (60, vec![])]
        {
            let (points, (width, height)) = place(nodes, &links, 100.0);
            assert_eq!(points.len(), nodes);
            assert!(points.iter().all(|(x, y)| (0.0..=width).contains(x) && (0.0..=height).contains(y)));
            assert!(nearest(&points) > 40.0, "{nodes} nodes, {} links: {}", links.len(), nearest(&points));
            assert!(width < 100.0 * 40.0 && height < 100.0 * 40.0, "{width} × {height}");
        }
    }

    #[test]
    fn those_without_links_stand_beneath_the_others() {
        let (points, (width, height)) = place(9, &[(1, 2), (2, 4), (4, 1)], 100.0);
        let lowest = [1, 2, 4].map(|node| points[node].1).into_iter().fold(0.0, f64::max);
        for alone in [0, 3, 5, 6, 7, 8] {
            assert!(points[alone].1 >= lowest + 99.0, "{points:?}");
        }
        assert!(nearest(&points) > 40.0 && width < 400.0 && height < 600.0, "{width} × {height}");
    }

    #[test]
    fn neighbours_stand_together_and_the_picture_is_always_the_same() {
        let links = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (2, 3)];
        let (points, size) = place(6, &links, 100.0);
        let distance = |a: usize, b: usize| (points[a].0 - points[b].0).hypot(points[a].1 - points[b].1);
        assert!(distance(0, 1) < distance(0, 4) && distance(4, 5) < distance(1, 5));
        assert_eq!(place(6, &links, 100.0), (points, size));
    }
}
