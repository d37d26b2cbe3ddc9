//! Sources of containers and autoscaling in their long form.
//! Promises absolute paths, so that what is printed means the same wherever it is read, and `${VAR}` in place of every value
//! that came from outside.

use std::path::Path;

use super::or;
use crate::config::checked::{self, AddressFrom, Pull, Target, WaitingPage};
use crate::config::defaults;
use crate::config::quantity::spell_duration;
use crate::config::raw::{self, Command, Switch, kind};
use crate::config::scalar::Scalar;
use crate::config::validate::{below, is_relative, words};

/// Commands become lists of words, and relative paths absolute.
pub(super) fn lengthen(service: &mut raw::Service) {
    if let Some(container) = &mut service.container {
        for volume in container.volumes.iter_mut().flatten() {
            lengthen_volume(volume, &container.folder);
        }
        container.command.iter_mut().for_each(split);
    }
    let Some(Switch::On(autoscale)) = &mut service.autoscale else { return };
    let Some(raw::Hook { command: Some(command), folder, .. }) = &mut autoscale.hook else { return };
    split(command);
    lengthen_program(command, folder);
}

fn lengthen_volume(volume: &mut Scalar<kind::Volume>, folder: &Path) {
    let (source, rest) = volume.value().split_once(':').unwrap_or((volume.value(), ""));
    if !is_relative(source) {
        return;
    }
    *volume = match volume.has_variables() {
        true => volume.below(folder),
        false => volume.piece(&format!("{}:{rest}", below(folder, source))),
    };
}

/// A line whose variables are replaced before it is split stays one.
fn split(command: &mut Command) {
    if let Command::Line(line) = command
        && !line.has_variables()
        && let Ok(words) = words(line.value())
    {
        *command = Command::Words(words.iter().map(|word| line.piece(word)).collect());
    }
}

fn lengthen_program(command: &mut Command, folder: &Path) {
    let is_local = |program: &str| program.contains('/') && !program.starts_with('/');
    match command {
        Command::Words(words) => {
            let Some(program) = words.first_mut().filter(|program| is_local(program.value())) else { return };
            *program = match program.has_variables() {
                true => program.below(folder),
                false => program.piece(&below(folder, program.value())),
            };
        }
        Command::Line(line) => {
            // A folder that needs quotes cannot be put in front of a line.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
            let first = words(line.value()).ok().and_then(|words| words.into_iter().next()).unwrap_or_default();
            let is_in_front = line.shown().starts_with(&first) && is_local(&first);
            if is_in_front && folder.display().to_string().chars().all(is_plain) {
                *line = line.below(folder);
            }
        }
    }
}

/// What is in force where nothing was typed.
pub(super) fn fill_source(service: &mut raw::Service, checked: &checked::Source) {
    if let Some(docker) = &mut service.docker {
        or(&mut docker.address, address(checked));
        docker.endpoint.get_or_insert_with(|| vec![Scalar::made(defaults::ENDPOINT)]);
    }
    if let (Some(container), checked::Source::Container(checked)) = (&mut service.container, checked) {
        or(&mut container.address, spell_address(checked.reach.address));
        or(&mut container.endpoint, defaults::ENDPOINT);
        or(&mut container.memory, "unlimited");
        or(&mut container.cpus, "unlimited");
        or(
            &mut container.pull,
            match checked.pull {
                Pull::Missing => "missing",
                Pull::Always => "always",
                Pull::Never => "never",
            },
        );
        or(&mut container.stop_timeout, spell_duration(checked.stop_timeout));
        // Beside `autoscale`, a fixed number would be a mistake.
        if !matches!(service.autoscale, Some(Switch::On(_))) {
            or(&mut container.replicas, checked.replicas);
        }
    }
    if let Some(swarm) = &mut service.swarm {
        or(&mut swarm.address, address(checked));
        or(&mut swarm.endpoint, defaults::ENDPOINT);
    }
}

fn address(source: &checked::Source) -> &'static str {
    match source {
        checked::Source::Docker(docker) => spell_address(docker.reach.address),
        checked::Source::Container(container) => spell_address(container.reach.address),
        checked::Source::Swarm(swarm) => spell_address(swarm.reach.address),
        checked::Source::Backends(_) => spell_address(AddressFrom::Auto),
    }
}

fn spell_address(address: AddressFrom) -> &'static str {
    match address {
        AddressFrom::Auto => "auto",
        AddressFrom::Published => "published",
        AddressFrom::Network => "network",
    }
}

/// What is in force where nothing was typed. What follows from a value that came from outside is left to follow.
pub(super) fn fill_autoscale(service: &mut raw::Service, checked: Option<&checked::Autoscale>) {
    let cap_is_known = !service.max_in_flight.as_ref().is_some_and(Scalar::has_variables);
    let (Switch::On(autoscale), Some(checked)) = (service.autoscale.get_or_insert(Switch::Off), checked) else {
        return;
    };
    or(&mut autoscale.min, checked.min);
    or(&mut autoscale.max, checked.max);
    let has_target = autoscale.target_rps.is_some() || autoscale.target_latency.is_some();
    if let (Target::InFlight(target), false, true) = (checked.target, has_target, cap_is_known) {
        or(&mut autoscale.target_in_flight, target);
    }
    if !autoscale.stable.as_ref().is_some_and(Scalar::has_variables) {
        or(&mut autoscale.panic, spell_duration(checked.panic));
    }
    or(&mut autoscale.stable, spell_duration(checked.stable));
    or(&mut autoscale.up_at_once, checked.up_at_once);
    or(&mut autoscale.down_at_once, checked.down_at_once);
    or(&mut autoscale.idle, spell_duration(checked.idle));
    let hold = autoscale.hold.get_or_insert_default();
    or(&mut hold.timeout, spell_duration(checked.hold.timeout));
    or(&mut hold.max, checked.hold.max);
    or(&mut hold.page, checked.hold.page == WaitingPage::On);
    if let (Some(hook), Some(checked)) = (&mut autoscale.hook, &checked.hook) {
        or(&mut hook.timeout, spell_duration(checked.timeout));
    }
}
