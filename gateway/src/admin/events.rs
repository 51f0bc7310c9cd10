//! `/v1/events`: every change as server-sent events, from the moment it is asked for until the gateway stops.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream::unfold};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use tokio_util::sync::CancellationToken;

use super::{Admin, Problem, auth::Actor, endpoints, extract::Asked};
use crate::{
    config::schema::Role,
    registry::{Change, News},
};

/// How often a quiet stream says that it is there.
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    /// Of this service alone.
    service: Option<String>,
}

pub(super) async fn stream(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Asked(About { service }): Asked<About>,
) -> Result<impl IntoResponse, Problem> {
    if let Some(service) = &service {
        if actor.role == Role::Service && !actor.services.discovers(service) {
            let detail = format!("token \"{}\" is not for service \"{}\"", actor.name, service.escape_debug());
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        admin.control.registry().service(service)?;
    }
    let sources = Sources {
        endpoints: admin.control.registry().news(),
        generations: admin.control.changed(),
        about: Audience { actor, service },
        stop: admin.stop.clone(),
        admin,
    };
    Ok(Sse::new(events(sources)).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// What events come from, and for whom they are.
struct Sources {
    endpoints: broadcast::Receiver<News>,
    generations: watch::Receiver<()>,
    about: Audience,
    stop: CancellationToken,
    admin: Admin,
}

struct Audience {
    actor: Actor,
    service: Option<String>,
}

impl Audience {
    /// Services are told of services that they may find.
    fn hears_of(&self, service: &str) -> bool {
        let may = self.actor.role != Role::Service || self.actor.services.discovers(service);
        may && self.service.as_ref().is_none_or(|wanted| wanted == service)
    }

    /// One that asks for one service is told of that alone.
    fn hears_of_generations(&self) -> bool {
        self.actor.role != Role::Service && self.service.is_none()
    }
}

fn events(sources: Sources) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(sources, async |mut sources| {
        loop {
            let Sources { endpoints, generations, about, stop, admin } = &mut sources;
            let event = tokio::select! {
                () = stop.cancelled() => return None,
                news = endpoints.recv() => match news {
                    Ok(news) => about.hears_of(&news.service).then(|| event("endpoint", &endpoint(&news))),
                    Err(RecvError::Lagged(missed)) => Some(event("missed", &json!({ "missed": missed }))),
                    Err(RecvError::Closed) => return None,
                },
                changed = generations.changed() => {
                    changed.ok()?;
                    let generation = admin.control.live().load().generation;
                    about.hears_of_generations().then(|| event("generation", &json!({ "generation": generation })))
                }
            };
            if let Some(event) = event {
                return Some((Ok(event), sources));
            }
        }
    })
}

fn event(kind: &str, data: &Value) -> Event {
    Event::default().event(kind).data(data.to_string())
}

fn endpoint(News { service, id, change, member }: &News) -> Value {
    let (change, why) = match change {
        Change::Registered => ("registered", None),
        Change::Changed => ("changed", None),
        Change::Deregistered => ("gone", Some("deregistered")),
        Change::Lapsed => ("gone", Some("lapsed")),
        Change::Unlisted => ("gone", Some("unlisted")),
        Change::Drained => ("drained", None),
        Change::Restored => ("restored", None),
    };
    let mut told = json!({
        "service": &**service,
        "id": id,
        "change": change,
        "endpoint": member.as_ref().map(|member| endpoints::told(member)),
    });
    if let Some(why) = why {
        told["why"] = why.into();
    }
    told
}
