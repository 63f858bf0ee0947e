//! The map: the stations with their cells, the line at which one takes over from the other, the vehicle with its trail, and the
//! service as a dot that is where the service is, and travels with it.

use mose_protocol::HostName;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position as Place, Rect};
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::ago;
use super::cast::{Cast, position};
use super::ground::Ground;
use super::raster::Raster;
use super::story::{self, Way};
use crate::hit::{Hit, Hits};
use crate::state::trail::{self, Point};
use crate::state::{Host, Presence};
use crate::theme::Role;
use crate::view::{Scene, words};

/// Rows from which on there is one more for words, below the map.
const BOTH: u16 = 7;

pub(in super::super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let cast = Cast::of(scene);
    let room = usize::from(area.width);
    let head = Rect { height: area.height.min(1), ..area };
    story::headline(scene, &cast, room).render(head, buf);
    let foot = u16::from(area.height >= BOTH);
    if foot > 0 {
        story::footing(scene, &cast, room).render(Rect { y: area.bottom() - 1, height: 1, ..area }, buf);
    }
    let sky = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + foot), ..area };
    if area.height < 3 || sky.width < 8 {
        return;
    }
    let lap = cast.mobile.map(|host| host.trail.lap()).unwrap_or_default();
    let Some(ground) = Ground::of(&cast, &lap, sky) else {
        return Line::from(scene.span(Role::Dim, words::fit(scene, "no station is known yet", room)))
            .render(Rect { height: 1, ..sky }, buf);
    };
    let lap = if ground.told { lap } else { Vec::new() };
    let mut raster = Raster::new(sky);
    cells(&cast, &ground, &mut raster);
    boundary(scene, &cast, &ground, &mut raster);
    flown(&ground, &lap, &mut raster);
    let way = route(scene, &cast, &ground, &mut raster);
    raster.draw(scene, buf);
    let mut labels = Labels { area: sky, taken: Vec::new() };
    // The marks first: no name may lie on one.
    let mut names = stations(scene, &cast, &ground, &mut labels, buf, hits);
    names.extend(service(scene, &cast, &ground, way, &mut labels, buf, hits));
    names.extend(vehicle(scene, &cast, &ground, &mut labels, buf, hits));
    for name in names.iter().rev() {
        labels.beside(scene, name, buf);
    }
    off_course(scene, &ground, &lap, &mut labels, buf);
    boundary_name(scene, &cast, &ground, &mut labels, buf);
    measure(scene, &ground, &mut labels, buf);
}

/// A circle for each station; that of the cell that serves the vehicle is whole.
fn cells(cast: &Cast<'_>, ground: &Ground, raster: &mut Raster) {
    let serving = cast.serving().map(|(host, _)| &host.name);
    let radius = ground.cell * ground.scale;
    let mut edges: Vec<&&Host> = cast.edges.iter().collect();
    edges.sort_by_key(|host| Some(&host.name) == serving);
    for host in edges {
        let Some(centre) = ground.host(&host.name) else { continue };
        match Some(&host.name) == serving {
            true => raster.circle(centre, radius, 1, Role::Edge),
            false => raster.circle(centre, radius, 3, Role::Dim),
        }
    }
}

/// The two ends, in dots, of the line on which it is as far to the one station as to the other.
fn handover_line(scene: &Scene<'_>, cast: &Cast<'_>, ground: &Ground) -> Option<((f64, f64), (f64, f64))> {
    let (one, other) = cast.pair(scene)?;
    let (a, b) = (ground.place(&one.name)?, ground.place(&other.name)?);
    let middle = (f64::midpoint(a.0, b.0), f64::midpoint(a.1, b.1));
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let apart = dx.hypot(dy);
    if apart < 1e-3 {
        return None;
    }
    let along = (-dy / apart * ground.cell * 1.3, dx / apart * ground.cell * 1.3);
    let at = |sign: f64| ground.dot((middle.0 + sign * along.0, middle.1 + sign * along.1));
    Some((at(-1.0), at(1.0)))
}

fn boundary(scene: &Scene<'_>, cast: &Cast<'_>, ground: &Ground, raster: &mut Raster) {
    if let Some((from, to)) = handover_line(scene, cast, ground).filter(|_| ground.told) {
        raster.line(from, to, 2, Role::Predicted);
    }
}

fn boundary_name(scene: &Scene<'_>, cast: &Cast<'_>, ground: &Ground, labels: &mut Labels, buf: &mut Buffer) {
    let Some((from, to)) = handover_line(scene, cast, ground).filter(|_| ground.told) else { return };
    let lower = if from.1 > to.1 { from } else { to };
    let (_, down) = Raster::size(labels.area);
    let lower = (lower.0, lower.1.min(down - 1.0));
    if let Some((x, y)) = ground.seen(lower) {
        for up in 0..3 {
            let row = y.saturating_sub(up);
            let name =
                Name { at: (x, row), text: "handover line".to_owned(), role: Role::Predicted, below: false };
            if labels.beside(scene, &name, buf) {
                return;
            }
        }
    }
}

/// Where the vehicle has been; where it was off its course the trail is thick, and of another colour.
fn flown(ground: &Ground, lap: &[Point], raster: &mut Raster) {
    let dot = |point: &Point| ground.dot((point.x, point.y));
    for pair in lap.windows(2) {
        raster.line(dot(&pair[0]), dot(&pair[1]), 1, Role::Mobile);
    }
    for kink in trail::kinks(lap) {
        let points = &lap[kink.from.saturating_sub(1)..=kink.to];
        for (dx, dy) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (-1.0, 0.0), (0.0, -1.0)] {
            let beside = |point: &Point| {
                let (x, y) = dot(point);
                (x + dx, y + dy)
            };
            points.iter().for_each(|point| raster.dot(beside(point), Role::Warning));
            for pair in points.windows(2) {
                raster.line(beside(&pair[0]), beside(&pair[1]), 1, Role::Warning);
            }
        }
    }
}

/// Where the service is, in dots, and what it does.
struct OnTheWay {
    at: (f64, f64),
    role: Role,
}

/// The way from the source to the destination, while the service moves and for a while after it; and where the service is.
fn route(scene: &Scene<'_>, cast: &Cast<'_>, ground: &Ground, raster: &mut Raster) -> Option<OnTheWay> {
    let at_home = || {
        let home = ground.host(cast.home?)?;
        Some(OnTheWay { at: home, role: if cast.runs { Role::Service } else { Role::Dim } })
    };
    let ends =
        |from: Option<&HostName>, to: Option<&HostName>| Some((ground.host(from?)?, ground.host(to?)?));
    let Some(track) = cast.moving else {
        let moved = story::news(scene, cast).and_then(|(track, _)| ends(track.from(), track.to()));
        if let Some((from, to)) = moved {
            raster.line(from, to, 3, Role::Service);
        }
        return at_home();
    };
    let Some((from, to)) = ends(track.from(), track.to()) else { return at_home() };
    let between = |share: f64| (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
    let way = Way::of(scene, track);
    let (copied, share, role) = match way {
        Way::Copying(copied) => (copied, 0.0, Role::Service),
        Way::Travelling(share) => (1.0, share, Role::Frozen),
        Way::Arrived => (1.0, 1.0, Role::Service),
        Way::Returned => (0.0, 0.0, Role::Service),
    };
    raster.line(from, to, 4, Role::Link);
    // What is there already of its copy.
    raster.line(from, between(copied), 1, Role::Moving);
    Some(OnTheWay { at: between(share), role })
}

fn service(
    scene: &Scene<'_>,
    cast: &Cast<'_>,
    ground: &Ground,
    way: Option<OnTheWay>,
    labels: &mut Labels,
    buf: &mut Buffer,
    hits: &mut Hits,
) -> Option<Name> {
    let (name, OnTheWay { at, role }) = (cast.service?, way?);
    // It stands on its station, not in its place.
    let (x, y) = ground.seen((at.0, at.1 - 4.0)).or_else(|| ground.seen(at))?;
    labels.mark(scene, (x, y), scene.theme.glyphs.live, role, buf);
    hits.note(Rect { x, y, width: 1, height: 1 }, Hit::Service(name.clone()));
    Some(Name { at: (x, y), text: name.to_string(), role, below: false })
}

fn stations(
    scene: &Scene<'_>,
    cast: &Cast<'_>,
    ground: &Ground,
    labels: &mut Labels,
    buf: &mut Buffer,
    hits: &mut Hits,
) -> Vec<Name> {
    let mut names = Vec::new();
    for host in &cast.edges {
        let Some((x, y)) = ground.host(&host.name).and_then(|dot| ground.seen(dot)) else { continue };
        let (role, text) = named(scene, host, Role::Edge);
        labels.mark(scene, (x, y), scene.theme.glyphs.here, role, buf);
        hits.note(Rect { x, y, width: 1, height: 1 }, Hit::Host(host.name.clone()));
        // The way of the service leads off at the side.
        names.push(Name { at: (x, y), text, role, below: true });
    }
    names
}

/// What a host is called on the map: with how it is, where that is not well.
fn named(scene: &Scene<'_>, host: &Host, usual: Role) -> (Role, String) {
    let presence = host.presence(scene.state.shown().now);
    let role = match presence {
        Presence::Live => return (usual, host.name.to_string()),
        Presence::Stale | Presence::Unknown => Role::Warning,
        Presence::Incompatible | Presence::Lost => Role::Bad,
    };
    (role, format!("{} {}", host.name, presence.name()))
}

/// The vehicle as an arrow that points where it flies.
fn vehicle(
    scene: &Scene<'_>,
    cast: &Cast<'_>,
    ground: &Ground,
    labels: &mut Labels,
    buf: &mut Buffer,
    hits: &mut Hits,
) -> Option<Name> {
    let host = cast.mobile?;
    let (x, y) = ground.host(&host.name).and_then(|dot| ground.seen(dot))?;
    let (role, text) = named(scene, host, Role::Mobile);
    let glyph = position(host).filter(|_| ground.told).map_or(scene.theme.glyphs.live, |place| {
        let moves = place.speed.0 > 0.05 && place.heading.0.is_finite();
        if moves { arrow(scene, place.heading.0) } else { scene.theme.glyphs.live }
    });
    labels.mark(scene, (x, y), glyph, role, buf);
    hits.note(Rect { x, y, width: 1, height: 1 }, Hit::Host(host.name.clone()));
    Some(Name { at: (x, y), text, role, below: false })
}

/// The arrow that comes nearest to a heading in degrees clockwise from the north.
fn arrow(scene: &Scene<'_>, heading: f64) -> &'static str {
    const UNICODE: [&str; 8] = ["▲", "◥", "▶", "◢", "▼", "◣", "◀", "◤"];
    const ASCII: [&str; 8] = ["^", "/", ">", "\\", "v", "/", "<", "\\"];
    let place = ((heading.rem_euclid(360.0) / 45.0).round() as usize) % 8;
    if scene.theme.glyphs.boxes { UNICODE[place] } else { ASCII[place] }
}

fn off_course(scene: &Scene<'_>, ground: &Ground, lap: &[Point], labels: &mut Labels, buf: &mut Buffer) {
    let mut kinks = trail::kinks(lap);
    // Where there is no room for all, the newest are told.
    kinks.reverse();
    for kink in kinks {
        // The start of the lap cuts this one off, perhaps with its worst point.
        if kink.from == 0 && kink.to + 1 < lap.len() {
            continue;
        }
        let Some(point) = lap.get(kink.worst) else { continue };
        let Some(place) = ground.seen(ground.dot((point.x, point.y))) else { continue };
        let off = format!("{:.1} m off course", kink.metres);
        // The whole last lap is drawn, so say how old this is.
        let ago = ago(scene.state.shown().now.since(point.at));
        let was = kink.to + 1 < lap.len();
        let mut name = Name { at: place, text: String::new(), role: Role::Warning, below: false };
        name.text = if was { format!("was {off} {ago}") } else { off.clone() };
        if labels.at_side(scene, &name, buf) {
            continue;
        }
        // A long label above or below would cover the kink.
        name.text = if was { format!("{:.1} m off, {ago}", kink.metres) } else { off };
        labels.beside(scene, &name, buf);
    }
}

/// How long so many metres are, or that the places are not known.
fn measure(scene: &Scene<'_>, ground: &Ground, labels: &mut Labels, buf: &mut Buffer) {
    let area = labels.area;
    let y = area.bottom() - 1;
    if !ground.told {
        let text = "not to scale: no station says where it is";
        labels.write(
            scene,
            Rect { x: area.x, y, width: words::width(text) as u16, height: 1 },
            text,
            Role::Dim,
            buf,
        );
        return;
    }
    let Some((metres, wide)) = ground.measure(area.width / 5).filter(|_| area.height >= 10) else { return };
    let (left, line, right) = if scene.theme.glyphs.boxes { ("├", "─", "┤") } else { ("|", "-", "|") };
    let text = format!("{left}{}{right} {metres:.0} m", line.repeat(usize::from(wide.saturating_sub(2))));
    let rect = Rect { x: area.x, y, width: words::width(&text) as u16, height: 1 };
    labels.write(scene, rect, &text, Role::Dim, buf);
}

/// A name to be written beside a mark.
struct Name {
    at: (u16, u16),
    text: String,
    role: Role,
    /// Whether it is rather below than beside.
    below: bool,
}

/// What is written on the map: nothing lies on anything else.
struct Labels {
    area: Rect,
    taken: Vec<Rect>,
}

impl Labels {
    /// A mark where something is, whatever is there.
    fn mark(&mut self, scene: &Scene<'_>, (x, y): (u16, u16), glyph: &str, role: Role, buf: &mut Buffer) {
        if self.area.contains(Place { x, y }) {
            buf.set_stringn(x, y, glyph, 1, scene.style(role));
            self.taken.push(Rect { x, y, width: 1, height: 1 });
        }
    }

    /// A name beside its place: at its right, at its left, below it or above it; whether there was room.
    fn beside(&mut self, scene: &Scene<'_>, name: &Name, buf: &mut Buffer) -> bool {
        let (x, y) = name.at;
        // One that is as long as the map is wide is cut.
        let text = words::fit(scene, &name.text, usize::from(self.area.width / 2).max(3));
        let name = &Name { text, ..*name };
        let width = words::width(&name.text) as u16;
        let middle = x.saturating_sub(width / 2);
        let middle = middle.clamp(self.area.x, self.area.right().saturating_sub(width).max(self.area.x));
        let below = [Some((middle, y + 1)), y.checked_sub(1).map(|above| (middle, above))];
        if !name.below && self.at_side(scene, name, buf) {
            return true;
        }
        self.first(scene, name, below, buf) || (name.below && self.at_side(scene, name, buf))
    }

    /// Writes a label right or left of its place. Returns whether there was room.
    fn at_side(&mut self, scene: &Scene<'_>, name: &Name, buf: &mut Buffer) -> bool {
        let (x, y) = name.at;
        let left = x.checked_sub(words::width(&name.text) as u16 + 1);
        self.first(scene, name, [Some((x + 2, y)), left.map(|left| (left, y))], buf)
    }

    /// Writes a label in the first of some places that has room. Returns whether one had.
    fn first(
        &mut self,
        scene: &Scene<'_>,
        name: &Name,
        places: [Option<(u16, u16)>; 2],
        buf: &mut Buffer,
    ) -> bool {
        let width = words::width(&name.text) as u16;
        places
            .into_iter()
            .flatten()
            .any(|(x, y)| self.write(scene, Rect { x, y, width, height: 1 }, &name.text, name.role, buf))
    }

    /// A text in a place, if nothing is there yet.
    fn write(&mut self, scene: &Scene<'_>, rect: Rect, text: &str, role: Role, buf: &mut Buffer) -> bool {
        // A blank on both sides tells it from what stands beside it.
        let wide = Rect { x: rect.x.saturating_sub(1), width: rect.width + 2, ..rect };
        let free = self.area.intersection(rect) == rect && !rect.is_empty();
        let free = free && self.taken.iter().all(|other| other.intersection(wide).is_empty());
        if free {
            // The lines stay off the words.
            for place in self.area.intersection(wide).positions() {
                if let Some(cell) = buf.cell_mut(place) {
                    cell.set_char(' ');
                }
            }
            buf.set_stringn(rect.x, rect.y, text, usize::from(rect.width), scene.style(role));
            self.taken.push(rect);
        }
        free
    }
}
