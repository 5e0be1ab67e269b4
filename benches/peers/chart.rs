//! The chart: requests a second as bars, a group for each table of which it shows something, as SVG
//! that can be read on light and dark ground.

use std::fmt::Write as _;

/// Who has which bar, and its colours on light and on dark ground.
const WHO: [(&str, &str, &str); 4] = [
    ("bare server (floor)", "#9aa4af", "#6e7681"),
    ("cache-server", "#0a7d5a", "#2fbf8f"),
    ("nginx", "#b35900", "#e08b3e"),
    ("Varnish", "#3f66b5", "#7aa2f0"),
];
/// All lengths in user units.
const WIDTH: u32 = 860;
const LABELS: u32 = 200;
/// Right of the longest bar there is room for its figure.
const BARS: f64 = 560.0;
const BAR: u32 = 13;
const BETWEEN: u32 = 14;
const TOP: u32 = 64;

/// The bars of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// What was asked.
    pub(crate) label: String,
    /// Requests a second of the floor, the cache, nginx and Varnish; nothing where one took no part.
    pub(crate) bars: Vec<Option<f64>>,
}

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> String {
    let mut drawn = String::new();
    let mut y = TOP;
    for group in groups {
        y = draw_group(&mut drawn, group, y);
    }
    let mut svg = head(y);
    svg.push_str(&drawn);
    svg.push_str("</svg>\n");
    svg
}

/// Draws a group, whose longest bar has all the room: what differs is how far the others come.
/// Gives where the next one begins.
fn draw_group(svg: &mut String, group: &Group, top: u32) -> u32 {
    let bars: Vec<(usize, f64)> =
        group.bars.iter().enumerate().filter_map(|(who, bar)| Some((who, (*bar)?))).collect();
    let longest = bars.iter().map(|(_, bar)| *bar).fold(1.0, f64::max);
    let _ = writeln!(
        svg,
        r#"<text class="t" x="{}" y="{}" text-anchor="end">{}</text>"#,
        LABELS - 10,
        top + BAR - 2,
        escaped(&group.label)
    );
    let mut y = top;
    for (who, bar) in bars {
        let width = bar / longest * BARS;
        let (height, text_y) = (BAR - 2, y + BAR - 3);
        let _ = writeln!(
            svg,
            r#"<rect class="b{who}" x="{LABELS}" y="{y}" width="{width:.1}" height="{height}" rx="2"/><text class="n" x="{:.1}" y="{text_y}">{}</text>"#,
            f64::from(LABELS) + width + 6.0,
            thousands(bar)
        );
        y += BAR;
    }
    y + BETWEEN
}

/// The frame, the colours and what they stand for.
fn head(height: u32) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>Requests a second on one core: a bare server, cache-server, nginx and Varnish</title>
<style>
.t {{ fill: #1f2328 }} .n {{ fill: #59636e; font-size: 10px }}
"#
    );
    for (who, (_, light, _)) in WHO.iter().enumerate() {
        let _ = writeln!(svg, ".b{who} {{ fill: {light} }}");
    }
    svg.push_str(
        "@media (prefers-color-scheme: dark) {\n.t { fill: #e6edf3 } .n { fill: #9198a1 }\n",
    );
    for (who, (_, _, dark)) in WHO.iter().enumerate() {
        let _ = writeln!(svg, ".b{who} {{ fill: {dark} }}");
    }
    svg.push_str("}\n</style>\n");
    let _ = writeln!(
        svg,
        r#"<text class="t" x="10" y="20" font-weight="600">Requests a second on one core; each group has its own scale</text>"#
    );
    for (x, (who, (name, ..))) in (LABELS..).step_by(150).zip(WHO.iter().enumerate()) {
        let _ = writeln!(
            svg,
            r#"<rect class="b{who}" x="{x}" y="34" width="11" height="11" rx="2"/><text class="t" x="{}" y="44">{name}</text>"#,
            x + 16
        );
    }
    svg
}

/// A count with its thousands apart.
fn thousands(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_of_each_group_has_all_the_room() {
        let group = |bars: &[f64]| Group {
            label: "a < b".into(),
            bars: bars.iter().map(|bar| Some(*bar)).collect(),
        };
        let svg = draw(&[group(&[200.0, 100.0]), group(&[4.0, 1.0, 8.0])]);
        for width in ["560.0", "280.0", "70.0"] {
            assert!(svg.contains(&format!("width=\"{width}\"")), "{width}: {svg}");
        }
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn who_took_no_part_has_no_bar() {
        let svg = draw(&[Group { label: "a".into(), bars: vec![None, Some(1.0), None, None] }]);
        assert_eq!(svg.matches("height=\"11\" rx").count(), 4 + 1, "{svg}");
        assert!(draw(&[]).contains("</style>"));
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0.4, 999.0, 1000.0, 1_234_567.0].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
