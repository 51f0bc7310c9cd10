//! Whether a request is what the description of its version says of requests. Checks that take long run beside the worker.

use std::{
    cell::OnceCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{SendError, Sender, channel},
    },
    thread,
};

use http::header::CONTENT_TYPE;
use tokio::sync::oneshot;

use super::Error;
use crate::{
    exchange::{
        Body, Exchange,
        body::{RequestError, Uncollected},
    },
    filter::Unread,
    openapi::in_turn,
    snapshot::{Route, Validation},
    worker::WorkerId,
};

/// Makes checks that are too long for a worker's turn, one after the other, on a thread of the worker's own with a lower priority.
#[derive(Debug, Default)]
pub(super) struct Checker(OnceCell<Sender<Job>>);

type Job = Box<dyn FnOnce() + Send>;

/// How much nicer than a worker the thread is (nice(2)): a worker that wakes goes first.
const NICER: i32 = 10;

impl Checker {
    /// Runs a check where it may take its time.
    async fn run<T: Send + 'static>(
        &self,
        worker: WorkerId,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, checked) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The client may have left while others were checked.
            if !sender.is_closed() {
                let _ = sender.send(check());
            }
        });
        if let Err(SendError(job)) = self.0.get_or_init(|| start(worker)).send(job) {
            job();
        }
        // Only a panic of the check leaves no result.
        checked.await.map_err(|_| Error::Panic)
    }
}

fn start(worker: WorkerId) -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    let run = move || {
        // Without it the checks only take more of the worker's time.
        let _ = rustix::process::nice(NICER);
        for job in jobs {
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    };
    if let Err(error) = thread::Builder::new().name(format!("stile-checks-{}", worker.0)).spawn(run) {
        tracing::warn!("requests are validated by their worker: no thread for that can be started: {error}");
    }
    sender
}

/// Reads the body where it is described. It is the request as the client has sent it: filters behind the last authenticator have
/// not seen it.
pub(super) async fn validate(
    route: &Route,
    worker: WorkerId,
    checker: &Checker,
    exchange: &Exchange,
    body: &mut Body,
) -> Result<(), Error> {
    match &route.validation {
        // Boxed, or every exchange would be as large as what few of them need.
        Some(validation) => Box::pin(described(validation, worker, checker, exchange, body)).await,
        None => Ok(()),
    }
}

async fn described(
    validation: &Validation,
    worker: WorkerId,
    checker: &Checker,
    exchange: &Exchange,
    body: &mut Body,
) -> Result<(), Error> {
    let (head, description) = (&exchange.request, &validation.description);
    let path = below(head.target.path(), validation.prefix);
    match in_turn(|| description.check(head, path)) {
        Some(checked) => checked?,
        None => {
            let (description, head, path) = (Arc::clone(description), head.clone(), path.to_owned());
            checker.run(worker, move || description.check(&head, &path)).await??;
        }
    }
    let Some(described) = description.body(&head.method, path)? else { return Ok(()) };
    if body.is_empty() {
        return Ok(described.none()?);
    }
    let headers = &head.headers;
    let held = match described.of(headers) {
        Ok(None) => return Ok(()),
        // Without a length and a type it may turn out to be none.
        Err(invalid) if headers.contains_key(CONTENT_TYPE) => return Err(invalid.into()),
        held => held,
    };
    let whole = match mem::take(body).collect(validation.body, validation.body_timeout).await {
        Ok(whole) => whole,
        Err(Uncollected::TooLarge(unread)) => {
            *body = unread;
            return Err(Error::TooLarge(validation.body));
        }
        Err(Uncollected::TooSlow) => return Err(Unread::SlowRequest.into()),
        Err(Uncollected::Broken(error)) => return Err(Unread::BrokenRequest(RequestError::of(&error)).into()),
    };
    let bytes = whole.bytes.clone();
    *body = whole.into();
    if bytes.is_empty() {
        return Ok(described.none()?);
    }
    let Some(held) = held? else { return Ok(()) };
    match in_turn(|| held.check(&bytes)) {
        Some(checked) => Ok(checked?),
        None => Ok(checker.run(worker, move || held.check(&bytes)).await??),
    }
}

/// A path without so many of its first segments, which the route has matched.
fn below(path: &str, segments: usize) -> &str {
    let slash = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').nth(segments);
    slash.map_or(if segments == 0 { path } else { "/" }, |(at, _)| &path[at..])
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn the_prefix_of_a_version_is_taken_off_by_segments() {
        for (path, segments, rest) in [
            ("/users/7", 0, "/users/7"),
            ("/v1/users/7", 1, "/users/7"),
            ("/t/acme/users", 2, "/users"),
            ("/v1", 1, "/"),
            ("/v1/", 1, "/"),
        ] {
            assert_eq!(below(path, segments), rest, "{path}");
        }
    }
}
