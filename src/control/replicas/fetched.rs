//! What the name of a service's image meant when it was last fetched: replicas that were made when it meant another one are
//! replaced. Pure.
//! It promises not to judge by what cannot be compared: where an engine calls the image of a replica otherwise than the
//! image itself, nothing is known. It fetches nothing.

use std::sync::Arc;

use crate::control::docker::facts::ContainerFacts;

/// What is known of the image behind a name.
#[derive(Debug, Default)]
pub struct Fetched {
    meaning: Meaning,
    /// A replica that was made right after a fetch, and what that fetch brought.
    proof: Option<(Arc<str>, Arc<str>)>,
}

#[derive(Debug, Default)]
enum Meaning {
    /// It was not fetched.
    #[default]
    Unknown,
    /// The engine called it so.
    Is(Arc<str>),
    /// The engine does not call it so in its containers.
    Incomparable,
}

/// A replica that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The container.
    pub id: Arc<str>,
    /// What its image was when it was fetched for it; `None` if it was not.
    pub image: Option<Arc<str>>,
}

impl Fetched {
    /// The image was fetched; `image` is what the engine calls it.
    pub fn note(&mut self, image: &Arc<str>) {
        if !matches!(self.meaning, Meaning::Incomparable) {
            self.meaning = Meaning::Is(image.clone());
        }
    }

    /// A replica was made.
    pub fn made(&mut self, made: &Made) {
        if let Some(image) = &made.image {
            self.note(image);
            self.proof = Some((made.id.clone(), image.clone()));
        }
    }

    /// Compares with what the engine shows of the replica that was made last.
    pub fn check(&mut self, containers: &[&ContainerFacts]) {
        let Some((id, image)) = &self.proof else { return };
        let Some(container) = containers.iter().find(|container| container.id == *id) else { return };
        if !container.image_id.is_empty() && *container.image_id != **image {
            self.meaning = Meaning::Incomparable;
        }
        self.proof = None;
    }

    /// What replicas are made from now, if it is known.
    pub fn image(&self) -> Option<&Arc<str>> {
        match &self.meaning {
            Meaning::Is(image) => Some(image),
            Meaning::Unknown | Meaning::Incomparable => None,
        }
    }
}
