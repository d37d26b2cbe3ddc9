//! What a replica is made from: its labels, its name, and the mark by which one made from something else is known.
//! Promises that the mark of a template is the same in every build and on every machine: containers are adopted by it.
//! It makes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::checked::{ContainerSource, Template};
use crate::control::docker::engine::Publish;
use crate::control::docker::facts::{LABEL_PROJECT, LABEL_SERVICE, LABEL_TEMPLATE};
use crate::units::ServiceName;

/// Characters of the part of a container's name that tells replicas apart.
const SUFFIX_CHARS: usize = 5;
/// Without vowels, `0` and `1`: they make no words, and none is mistaken for another.
const SUFFIX_LETTERS: &[u8; 28] = b"23456789bcdfghjklmnpqrstvwxz";

/// How the replicas of one service are made.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Whose.
    pub service: ServiceName,
    /// Their source.
    pub source: ContainerSource,
    /// Where their port is published.
    pub publish: Publish,
    /// The mark of all that: the value of [`LABEL_TEMPLATE`].
    pub mark: Arc<str>,
}

impl Birth {
    /// Replicas of `service` from `source`, reached through `publish`.
    pub fn new(service: ServiceName, source: ContainerSource, publish: Publish) -> Self {
        let mark = mark(&source.template, publish).into();
        Self { service, source, publish, mark }
    }

    /// The labels of a replica: ours hold whatever the file says.
    pub fn labels(&self, project: &str) -> BTreeMap<String, String> {
        let own = [(LABEL_SERVICE, self.service.as_str()), (LABEL_PROJECT, project), (LABEL_TEMPLATE, &self.mark)];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.source.template.labels.iter().cloned().chain(own).collect()
    }

    /// A name: `portway-thumbs-k3f9x`. A name of a container of the past is not used again, so that a log which names one
    /// means one.
    pub fn name(&self, mut random: u64) -> Arc<str> {
        let letter = |_| {
            let n = SUFFIX_LETTERS.len() as u64;
            let letter = SUFFIX_LETTERS[usize::try_from(random % n).expect("below 28")];
            random /= n;
            char::from(letter)
        };
        let suffix: String = (0..SUFFIX_CHARS).map(letter).collect();
        format!("portway-{}-{suffix}", self.service).into()
    }
}

/// What tells templates apart: how a replica is published is part of it, because no running container changes that.
fn mark(template: &Template, publish: Publish) -> String {
    // Named one by one: a field that is added makes this fail to compile, and not replicas outlive a change of it.
    let Template { image, port, command, environment, volumes, networks, labels, memory, nano_cpus } = template;
    let mut hash = Fnv::new();
    hash.text(image).number(port.get().into());
    hash.number(command.is_some().into()).texts(command.iter().flatten());
    hash.texts(environment.iter().flat_map(|(name, value)| [name, value]));
    hash.texts(volumes).texts(networks);
    hash.texts(labels.iter().flat_map(|(name, value)| [name, value]));
    hash.number(memory.map_or(0, |size| size.0)).number(nano_cpus.map_or(0, |cpus| cpus.get()));
    match publish {
        Publish::Nowhere => hash.number(0),
        Publish::On(ip) => hash.text(&ip.to_string()),
    };
    format!("{:016x}", hash.0)
}

/// FNV-1a, 64 bits: std's hasher may be another one in the next release.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes());
        self
    }

    /// With its length before it, so that no two lists run into the same bytes.
    fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).bytes(text.as_bytes());
        self
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a String>) -> &mut Self {
        let texts: Vec<_> = texts.into_iter().collect();
        self.number(texts.len() as u64);
        texts.into_iter().for_each(|text| {
            self.text(text);
        });
        self
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use super::*;
    use crate::config::checked::{AddressFrom, Endpoint, Pull, Reach};

    /// A source of replicas of `image`.
    pub(crate) fn source(image: &str) -> ContainerSource {
        let template = Template {
            image: image.to_owned(),
            port: NonZeroU16::new(5000).unwrap(),
            command: None,
            environment: vec![],
            volumes: vec![],
            networks: vec![],
            labels: vec![],
            memory: None,
            nano_cpus: None,
        };
        ContainerSource {
            template,
            replicas: 1,
            pull: Pull::Missing,
            stop_timeout: Duration::from_secs(10),
            reach: Reach { address: AddressFrom::Auto, network: None },
            endpoint: Endpoint::Default,
        }
    }

    fn birth(edit: impl FnOnce(&mut Template)) -> Birth {
        let mut source = source("acme/thumbs:1.4");
        edit(&mut source.template);
        Birth::new(ServiceName::new("thumbs").unwrap(), source, Publish::LOOPBACK)
    }

    #[test]
    fn every_change_of_a_template_changes_its_mark() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let marks = [
            birth(|_| ()),
            birth(|template| template.image = "acme/thumbs:1.5".to_owned()),
            birth(|template| template.command = Some(vec![])),
            birth(|template| template.command = Some(vec!["a b".to_owned()])),
            birth(|template| template.command = Some(vec!["a".to_owned(), "b".to_owned()])),
            birth(|template| template.environment = vec![pair("A", "B")]),
            birth(|template| template.environment = vec![pair("AB", "")]),
            birth(|template| template.labels = vec![pair("A", "B")]),
            birth(|template| template.volumes = vec!["/a:/b".to_owned()]),
            birth(|template| template.networks = vec!["/a:/b".to_owned()]),
            Birth::new(ServiceName::new("thumbs").unwrap(), source("acme/thumbs:1.4"), Publish::Nowhere),
        ]
        .map(|birth| birth.mark);
        let distinct: std::collections::BTreeSet<_> = marks.iter().collect();
        assert_eq!(distinct.len(), marks.len(), "{marks:?}");
    }

    /// Containers are adopted by it: another value here replaces everything that runs at an update of Portway.
    #[test]
    fn the_mark_of_a_template_never_changes() {
        assert_eq!(&*birth(|_| ()).mark, "5e6f2ab8daaeb858");
    }

    #[test]
    fn our_labels_hold_whatever_the_file_says() {
        let birth = birth(|template| {
            template.labels = [("team", "pictures"), (LABEL_SERVICE, "other")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
        });
        let labels = birth.labels("home");
        assert_eq!(labels["team"], "pictures");
        assert_eq!(labels[LABEL_SERVICE], "thumbs");
        assert_eq!(labels[LABEL_PROJECT], "home");
        assert_eq!(labels[LABEL_TEMPLATE], *birth.mark);
    }

    #[test]
    fn names_begin_with_whose_they_are_and_differ() {
        let birth = birth(|_| ());
        assert_eq!(&*birth.name(0), "portway-thumbs-22222");
        assert_ne!(birth.name(1), birth.name(2));
    }
}
