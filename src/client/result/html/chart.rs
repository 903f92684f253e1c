//! Line charts as SVG, drawn once in a wide and once in a narrow size, of which the page's style shows one: text keeps its
//! size on a telephone. All lines of a chart share their places on the x axis, so that the page can show their values at one.

use super::super::words::shortened;
use super::escape;
use std::fmt::Write as _;

/// Colours that the style has; further lines take them again, dashed.
const COLOURS: usize = 8;
/// Places of x that the page can point at.
const POINTED: usize = 400;

/// An axis: what it shows, how its numbers are written, and whether equal distances are equal factors.
pub struct Axis {
    pub label: String,
    pub log: bool,
    pub text: fn(f64) -> String,
    /// Instead of what would be chosen by the values.
    pub ticks: Option<Vec<(f64, String)>>,
}

pub struct Line {
    pub name: String,
    /// One for each place on the x axis; none where it has none.
    pub values: Vec<Option<f64>>,
    pub dashed: bool,
}

pub struct Chart {
    pub title: String,
    /// Below it: what it shows and how to read it.
    pub note: String,
    pub x: Axis,
    pub y: Axis,
    /// Ascending.
    pub places: Vec<f64>,
    pub lines: Vec<Line>,
    /// Values hold until the next place, as in a distribution.
    pub steps: bool,
    /// Half of the page's width.
    pub half: bool,
}

/// One drawing's measures, in pixels.
struct Canvas {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
}

const TOP: f64 = 26.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// A span of values on so many pixels.
struct Scale {
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    fn part(&self, value: f64) -> f64 {
        let of = |v: f64| {
            if self.log {
                v.max(f64::MIN_POSITIVE).log10()
            } else {
                v
            }
        };
        let span = of(self.to) - of(self.from);
        if span > 0.0 {
            ((of(value) - of(self.from)) / span).clamp(0.0, 1.0)
        } else {
            0.5
        }
    }
}

impl Chart {
    /// The figure with heading, legend, drawings and note; a sentence instead when there is nothing to draw.
    pub fn figure(&self) -> String {
        let class = if self.half { "half" } else { "" };
        let mut html = format!("<figure class=\"chart {class}\"");
        if !self.is_empty() {
            _ = write!(html, " data-points=\"{}\"", escape(&self.points()));
        }
        _ = writeln!(html, ">\n<h3>{}</h3>", escape(&self.title));
        if self.is_empty() {
            html += "<p class=\"none\">Nothing was recorded.</p>\n";
        } else {
            html += &self.legend();
            // Names for the units on the left take their room.
            let widest = self
                .y_ticks()
                .iter()
                .map(|(_, text)| text.chars().count())
                .max()
                .unwrap_or(0);
            let left = 14.0 + 6.8 * widest as f64;
            let wide = Canvas {
                class: "wide",
                width: 960.0,
                height: 300.0,
                left,
            };
            let narrow = Canvas {
                class: "narrow",
                width: 440.0,
                height: 270.0,
                left,
            };
            if !self.half {
                html += &self.drawing(&wide);
            }
            html += &self.drawing(&narrow);
        }
        if !self.note.is_empty() {
            _ = writeln!(html, "<figcaption>{}</figcaption>", escape(&self.note));
        }
        html + "</figure>\n"
    }

    fn is_empty(&self) -> bool {
        !self
            .lines
            .iter()
            .any(|line| line.values.iter().flatten().any(|value| value.is_finite()))
    }

    fn legend(&self) -> String {
        let mut html = String::from("<p class=\"legend\">");
        for (at, line) in self.lines.iter().enumerate() {
            _ = write!(
                html,
                "<button type=\"button\" data-line=\"{at}\" aria-pressed=\"true\"><i class=\"{}\"></i>{}</button>",
                colour(at, line.dashed),
                escape(&line.name)
            );
        }
        html + "</p>\n"
    }

    /// Names and values by place, for the page's pointer: `[[part of the width, "12 s", ["0.9 ms", …]], …]`.
    fn points(&self) -> String {
        let scale = self.x_scale();
        let step = self.places.len().div_ceil(POINTED).max(1);
        let each = self
            .places
            .iter()
            .enumerate()
            .step_by(step)
            .map(|(at, place)| {
                let value = |line: &Line| {
                    line.values
                        .get(at)
                        .copied()
                        .flatten()
                        .map_or_else(|| "–".to_owned(), self.y.text)
                };
                let values: Vec<_> = self.lines.iter().map(value).collect();
                let part = (scale.part(*place) * 1e4).round() / 1e4;
                serde_json::json!([part, (self.x.text)(*place), values])
            });
        serde_json::Value::Array(each.collect()).to_string()
    }

    fn x_scale(&self) -> Scale {
        let (from, to) = (self.places.first().copied(), self.places.last().copied());
        let (from, to) = (from.unwrap_or(0.0), to.unwrap_or(1.0));
        Scale {
            from,
            to: if to > from { to } else { from + 1.0 },
            log: self.x.log,
        }
    }

    fn y_ticks(&self) -> Vec<(f64, String)> {
        let values = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().flatten());
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            high = high.max(*value);
            low = low.min(if *value > 0.0 { *value } else { f64::INFINITY });
        }
        let at = if self.y.log {
            log_ticks(low.min(high), high)
        } else {
            linear_ticks(0.0, high, 5)
        };
        at.into_iter()
            .map(|value| (value, shortened(&(self.y.text)(value))))
            .collect()
    }

    fn x_ticks(&self, canvas: &Canvas) -> Vec<(f64, String)> {
        let scale = self.x_scale();
        if let Some(ticks) = &self.x.ticks {
            let inside = |tick: &&(f64, String)| tick.0 >= scale.from && tick.0 <= scale.to;
            return ticks.iter().filter(inside).cloned().collect();
        }
        let most = if canvas.class == "wide" { 12 } else { 6 };
        let at = linear_ticks(scale.from, scale.to, most);
        let at = at
            .into_iter()
            .filter(|at| *at >= scale.from && *at <= scale.to);
        at.map(|at| (at, shortened(&(self.x.text)(at)))).collect()
    }

    fn drawing(&self, canvas: &Canvas) -> String {
        let (width, height) = (
            canvas.width - canvas.left - RIGHT,
            canvas.height - TOP - BOTTOM,
        );
        let (x_scale, y_ticks) = (self.x_scale(), self.y_ticks());
        let (from, to) = (
            y_ticks.first().map_or(0.0, |t| t.0),
            y_ticks.last().map_or(1.0, |t| t.0),
        );
        let y_scale = Scale {
            from,
            to,
            log: self.y.log,
        };
        let x = |value: f64| canvas.left + x_scale.part(value) * width;
        let y = |value: f64| TOP + (1.0 - y_scale.part(value)) * height;
        let class = if self.half { "" } else { canvas.class };
        let mut svg = format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            canvas.width,
            canvas.height,
            escape(&self.title)
        );
        let (bottom, right) = (TOP + height, canvas.left + width);
        _ = writeln!(
            svg,
            "<rect class=\"plot\" x=\"{:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            canvas.left
        );
        // What comes before 0 is not measured.
        if !self.x.log && x_scale.from < 0.0 {
            _ = writeln!(
                svg,
                "<rect class=\"shade\" x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{height:.1}\"><title>warm-up, not \
                 measured</title></rect>",
                canvas.left,
                x(0.0) - canvas.left
            );
        }
        for (value, text) in &y_ticks {
            let at = y(*value);
            _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{:.1} {at:.1}H{right:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                canvas.left,
                canvas.left - 6.0,
                at + 4.0,
                escape(text)
            );
        }
        for (value, text) in self.x_ticks(canvas) {
            let at = x(value);
            _ = writeln!(
                svg,
                "<path class=\"tick\" d=\"M{at:.1} {bottom:.1}v4\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                escape(&text)
            );
        }
        _ = writeln!(
            svg,
            "<text class=\"axis\" x=\"0\" y=\"12\">{}</text><text class=\"axis\" x=\"{right:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            escape(&self.y.label),
            canvas.height - 5.0,
            escape(&self.x.label)
        );
        for (at, line) in self.lines.iter().enumerate() {
            svg += &self.path(at, line, &x, &y);
        }
        _ = writeln!(svg, "<path class=\"pointer\" d=\"M0 {TOP}V{bottom:.1}\"/>");
        svg + "</svg>\n"
    }

    /// A line, broken where it has no values; a dot where it has but one.
    fn path(
        &self,
        at: usize,
        line: &Line,
        x: &dyn Fn(f64) -> f64,
        y: &dyn Fn(f64) -> f64,
    ) -> String {
        let class = colour(at, line.dashed);
        let (mut path, mut dots) = (String::new(), String::new());
        let known = |at: usize| {
            line.values
                .get(at)
                .copied()
                .flatten()
                .filter(|value| value.is_finite())
        };
        for (at, place) in self.places.iter().enumerate() {
            let Some(value) = known(at) else { continue };
            let before = at > 0 && known(at - 1).is_some();
            let after = known(at + 1).is_some() && at + 1 < self.places.len();
            let (x, y) = (x(*place), y(value));
            _ = match (before, after) {
                (false, false) => write!(
                    dots,
                    "<circle class=\"{class} l{at}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
                ),
                (false, true) => write!(path, "M{x:.1} {y:.1}"),
                (true, _) if self.steps => write!(path, "H{x:.1}V{y:.1}"),
                (true, _) => write!(path, "L{x:.1} {y:.1}"),
            };
        }
        format!(
            "<g class=\"line\" data-line=\"{at}\"><path class=\"{class}\" d=\"{path}\"/>{dots}</g>\n"
        )
    }
}

fn colour(at: usize, dashed: bool) -> String {
    let again = if dashed || at >= COLOURS {
        " dashed"
    } else {
        ""
    };
    format!("c{}{again}", at % COLOURS)
}

/// Round numbers from below `from` (at most) to above `to`, some `most` of them.
pub fn linear_ticks(from: f64, to: f64, most: usize) -> Vec<f64> {
    let span = if to > from { to - from } else { 1.0 };
    let rough = span / most.max(1) as f64;
    let size = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|n| n * size)
        .find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(size * 10.0);
    let (first, last) = (
        (from / step).floor(),
        (from.max(from + span) / step - 1e-9).ceil(),
    );
    if !(step.is_normal() && (last - first) < 1000.0) {
        return vec![0.0, 1.0];
    }
    (0..=(last - first) as i64)
        .map(|n| (first + n as f64) * step)
        .collect()
}

/// Powers of ten around both, with 2 and 5 between them when these are few.
pub fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (low, high) = (low.max(1e-3), high.max(1e-3));
    let factors: &[f64] = match (high / low).log10() {
        decades if decades < 2.5 => &[1.0, 2.0, 5.0],
        decades if decades < 4.0 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let powers = low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1;
    let all: Vec<f64> = powers
        .flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)))
        .collect();
    let first = all
        .iter()
        .rposition(|tick| *tick <= low * 1.001)
        .unwrap_or(0);
    let last = all
        .iter()
        .position(|tick| *tick >= high * 0.999)
        .unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1).min(all.len() - 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>, log: bool) -> Chart {
        let axis = |log| Axis {
            label: "<x>".into(),
            log,
            text: super::super::super::words::figure,
            ticks: None,
        };
        Chart {
            title: "a & b".into(),
            note: String::new(),
            x: axis(false),
            y: axis(log),
            places: (0..values.len()).map(|at| at as f64).collect(),
            lines: vec![Line {
                name: "\"one\"".into(),
                values,
                dashed: false,
            }],
            steps: false,
            half: false,
        }
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        assert_eq!(
            linear_ticks(0.0, 4321.0, 5),
            [0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0]
        );
        assert_eq!(
            linear_ticks(-1.0, 10.0, 12),
            (-1..=10).map(f64::from).collect::<Vec<_>>()
        );
        assert_eq!(
            log_ticks(870.0, 9000.0),
            [500.0, 1000.0, 2000.0, 5000.0, 10_000.0]
        );
        assert_eq!(log_ticks(1.0, 1e6).len(), 7);
        for (low, high) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (3.0, 7e9),
            (f64::MAX / 4.0, f64::MAX / 2.0),
            (1e-9, 1e-8),
        ] {
            for ticks in [linear_ticks(low, high, 5), log_ticks(low, high)] {
                assert!(
                    (2..60).contains(&ticks.len())
                        && ticks.windows(2).all(|pair| pair[0] < pair[1]),
                    "{ticks:?}"
                );
            }
        }
    }

    #[test]
    fn lines_break_where_nothing_is_known() {
        let html = chart(
            vec![Some(1.0), Some(2.0), None, Some(3.0), None, Some(f64::NAN)],
            false,
        )
        .figure();
        let path = html
            .split("class=\"c0\" d=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(
            (path.matches('M').count(), path.matches('L').count()),
            (1, 1),
            "{path}"
        );
        assert_eq!(html.matches("<circle").count(), 2, "one in each size");
    }

    #[test]
    fn words_of_others_are_text() {
        let html = chart(vec![Some(1.0), Some(2.0)], true).figure();
        assert!(
            html.contains("a &amp; b")
                && html.contains("&lt;x&gt;")
                && html.contains("&quot;one&quot;")
        );
        assert!(!html.contains("<x>"));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        for values in [vec![], vec![None, None], vec![Some(f64::NAN)]] {
            assert!(
                chart(values, true)
                    .figure()
                    .contains("Nothing was recorded")
            );
        }
        let one = chart(vec![Some(0.0)], true).figure();
        assert!(one.contains("<circle") && !one.contains("NaN") && !one.contains("inf"));
    }
}
