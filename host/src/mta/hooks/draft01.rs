//! MTA Hooks as draft-degennaro-mta-hooks-01 has them: discovery, registration, and requests in JSON or CBOR.
//!
//! Measured with the bridge before a Postfix 3.7.11: deletions of header fields count differently in the text and in the bridge,
//! so a header is edited by `/rawMessage`, whose octets stay but for the fields concerned; recipients are deleted from the last
//! up; `disconnect` at DATA loses mail and is never said; a bridge set to fail open goes on with the key on each 4xx, so faults
//! of a message are a refusal for now inside a 200.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::octets::{self, Received, Room};
use super::told::judged;
use super::{Door, Fault};
use crate::case::{Case, Means, Reply};
use crate::mta::reception::Seat;
use crate::mta::{FOR_NOW, Judge, Refused};

mod form;
mod plan;
mod registration;
mod registry;
mod render;
mod repeats;
mod request;

pub use registration::Registration;
pub use registry::Registry;

use form::Form;
use plan::Plan;
use registration::Wanted;
use registry::Standing;
use render::Said;
pub(super) use repeats::Repeats;
use repeats::{Known, Turn};
use request::{Asked, Stage};

/// Where registrations are made.
pub(super) const REGISTRATION: &str = "/draft-01/registrations";
/// Where one of them is looked at and taken back.
pub(super) const ONE_REGISTRATION: &str = "/draft-01/registrations/{id}";
/// Where requests go.
pub(super) const HOOK: &str = "/draft-01/hook";
/// Where all that is told.
pub(super) const DISCOVERY: &str = "/.well-known/mta-hooks";
/// The field that names a registration.
const OF_REGISTRATION: &str = "x-mta-hooks-registration";
/// The field that names a request, the same over its retries.
const OF_REQUEST: &str = "x-mta-hooks-request-id";
/// Octets of a request's name.
const REQUEST_ID: usize = 128;
/// Octets of a registration.
const WANTED: usize = 64 * 1024;

/// A refusal of a request as such, in the words of HTTP.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), retry_after: None }
    }

    fn response(&self) -> Response {
        let words = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let octets = octets::json(&words).unwrap_or_default();
        let mut response = octets::answer(self.status, "application/problem+json", octets);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"addrauth\", Basic realm=\"addrauth\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response.headers_mut().extend(self.retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
        response
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Response {
    octets::answer(status, "application/json", octets::json(value).unwrap_or_default())
}

/// What this door is, for everybody.
pub(super) async fn discover<J: Judge>(State(door): State<Arc<Door<J>>>) -> Response {
    let limits = door.reception.limits();
    let text = json!({
        "version": "1.0",
        "endpoints": { "registration": REGISTRATION, "deregistration": format!("{REGISTRATION}/{{registrationId}}") },
        "serialization": ["json", "cbor"],
        "capabilities": {
            "inbound": {
                "stages": registration::STAGES,
                "actions": ["accept", "reject", "discard", "quarantine"],
                "fetchProperties": registration::PROPERTIES,
                "updateProperties": registration::UPDATES,
            },
            "outbound": null,
        },
        "limits": {
            // In base64, and with room for the rest.
            "maxMessageSize": limits.hooks.request / 4 * 3 - 1024 * 1024,
            "maxRegistrations": limits.hooks.registrations,
            "timeoutMs": u64::try_from(limits.hooks.answer.as_millis()).unwrap_or(u64::MAX),
        },
        "extensions": null,
    });
    json_answer(StatusCode::OK, &text)
}

/// Who asks, as a sum of the credential.
fn who<J>(door: &Door<J>, fields: &HeaderMap) -> Result<[u8; 32], Problem> {
    door.setting.access.of(fields).ok_or_else(|| {
        if door.denied.is_due() {
            tracing::warn!("requests of a mail server are refused: {}", Fault::Denied);
        }
        Problem::new(StatusCode::UNAUTHORIZED, "show a credential that hooks.tokens or hooks.basic of addrauth names")
    })
}

/// A registration.
pub(super) async fn register<J: Judge>(State(door): State<Arc<Door<J>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let registered = async {
        let owner = who(&door, &head.headers)?;
        let form = Form::of(&head.headers)?;
        let bounds = octets::Bounds { room: &door.room, octets: WANTED, due: door.due() };
        let received = Received::of(body, &bounds).await.map_err(|fault| unreadable(&fault))?;
        let wanted: Wanted = form.read(&received.octets).map_err(|fault| unreadable(&fault))?;
        let wanted = wanted.check().map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        let made = door.registry.add(wanted, owner, door.reception.limits().hooks.registrations).await;
        made.map_err(|fault| {
            tracing::warn!("a mail server is not registered: {fault}");
            let detail = "the registration cannot be written down: see the log of addrauth";
            Problem { retry_after: Some(60), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
        })
    };
    match registered.await {
        Ok(registration) => {
            tracing::info!("{} is registered for hooks as {}", registration.shown(), registration.id);
            json_answer(StatusCode::CREATED, &registration.told(REGISTRATION, HOOK))
        }
        Err(problem) => problem.response(),
    }
}

/// A registration that is looked at.
pub(super) async fn status<J: Judge>(
    State(door): State<Arc<Door<J>>>,
    Path(id): Path<String>,
    fields: HeaderMap,
) -> Response {
    match registered(&door, &fields, &id).await {
        Ok((registration, _)) => json_answer(StatusCode::OK, &registration.told(REGISTRATION, HOOK)),
        Err(problem) => problem.response(),
    }
}

/// A registration that is taken back.
pub(super) async fn deregister<J: Judge>(
    State(door): State<Arc<Door<J>>>,
    Path(id): Path<String>,
    fields: HeaderMap,
) -> Response {
    let taken_back = async {
        registered(&door, &fields, &id).await?;
        door.registry.remove(&id).await.map_err(|fault| {
            tracing::warn!("a registration is not taken back: {fault}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "it cannot be written down: see the log of addrauth")
        })
    };
    match taken_back.await {
        Ok(_) => octets::answer(StatusCode::NO_CONTENT, "application/json", Zeroizing::default()),
        Err(problem) => problem.response(),
    }
}

/// The registration of this name, where it belongs to who asks.
async fn registered<J>(door: &Door<J>, fields: &HeaderMap, id: &str) -> Result<(Registration, [u8; 32]), Problem> {
    let owner = who(door, fields)?;
    match door.registry.find(id, owner).await {
        Standing::Active(registration) => Ok((registration, owner)),
        Standing::Foreign => Err(Problem::new(StatusCode::FORBIDDEN, "the registration belongs to another credential")),
        Standing::Gone => Err(Problem::new(StatusCode::GONE, "the registration was taken back: register again")),
        Standing::Unknown => Err(Problem::new(StatusCode::NOT_FOUND, "there is no such registration: register again")),
    }
}

fn unreadable(fault: &Fault) -> Problem {
    let status = match fault {
        Fault::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem {
        retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        ..Problem::new(status, fault.to_string())
    }
}

/// A request about a message.
pub(super) async fn hook<J: Judge>(State(door): State<Arc<Door<J>>>, mut request: Request) -> Response {
    let due = door.due();
    let seat = request.extensions_mut().remove::<Arc<Seat>>();
    let (head, body) = request.into_parts();
    let name = |field| head.headers.get(field).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let form = Form::of(&head.headers);
    let answered = async {
        let id = name(OF_REGISTRATION);
        let found = tokio::time::timeout_at(due, registered(&door, &head.headers, &id)).await;
        let (registration, owner) = match found {
            Err(_) => return Ok(form?.answer(&render::refusal(FOR_NOW), None)),
            Ok(Ok(found)) => found,
            Ok(Err(problem)) => {
                // It is read to its end, since many a mail server reads no answer before.
                let bounds = octets::Bounds { room: &door.room, octets: 0, due };
                drop(Received::of(body, &bounds).await);
                return Err(problem);
            }
        };
        let call =
            Call { registration: &registration, owner, id: name(OF_REQUEST), form: form?, due: registration.due(due) };
        Ok(match call.answer(&door, seat, body).await {
            Err(Failed::Fault(fault)) => {
                door.tell(&fault);
                call.form.answer(&render::refusal(fault.reply()), None)
            }
            Err(Failed::Conflict) => return Err(Problem::new(StatusCode::CONFLICT, "another request had this id")),
            Ok(response) => response,
        })
    };
    let answered = std::panic::AssertUnwindSafe(answered).catch_unwind().await;
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.response(),
        Err(_) => {
            door.tell(&Fault::Panicked);
            Form::of(&head.headers).unwrap_or_default().answer(&render::refusal(Fault::Panicked.reply()), None)
        }
    }
}

/// A request that may be asked.
struct Call<'a> {
    registration: &'a Registration,
    owner: [u8; 32],
    id: String,
    form: Form,
    due: Instant,
}

/// Why a request gets no answer of its own.
enum Failed {
    /// Its message is refused for this.
    Fault(Fault),
    /// Another request had its id.
    Conflict,
}

impl<F: Into<Fault>> From<F> for Failed {
    fn from(fault: F) -> Failed {
        Failed::Fault(fault.into())
    }
}

impl Call<'_> {
    async fn answer<J: Judge>(&self, door: &Door<J>, seat: Option<Arc<Seat>>, body: Body) -> Result<Response, Failed> {
        let seat = seat.ok_or(Refused::Full("connections"))?;
        let limits = Arc::clone(door.reception.limits());
        let bounds = octets::Bounds { room: &door.room, octets: limits.hooks.request, due: self.due };
        let received = Received::of(body, &bounds).await?;
        let mut asked = Asked::read(self.form, &received.octets, self.registration)?;
        asked.room = received.into_room();
        match asked.stage {
            Stage::Data => self.data(door, &seat, asked).await,
            Stage::Rcpt => {
                let next = asked.told.next(&door.reception, &seat).await;
                Ok(next.map_or_else(|reply| self.form.answer(&render::refusal(reply), None), |()| render::nothing()))
            }
            Stage::Other => Ok(render::nothing()),
        }
    }

    async fn data<J: Judge>(&self, door: &Door<J>, seat: &Seat, asked: Asked) -> Result<Response, Failed> {
        if self.id.is_empty() || self.id.len() > REQUEST_ID {
            return Err(Fault::Malformed("it has no X-MTA-Hooks-Request-Id".into()).into());
        }
        let turn = door.repeats.turn((self.owner, self.id.clone()));
        // Another try of the same request is answered once this one is.
        let mut turn = tokio::time::timeout_at(self.due, turn).await.map_err(|_| {
            Fault::Refused(Refused::Late {
                what: "another try of the same request",
                limit: door.reception.limits().hooks.answer,
            })
        })?;
        match turn.known(&asked.digest) {
            Known::Nothing => self.first(door, seat, asked, &mut turn).await,
            Known::Other => Err(Failed::Conflict),
            Known::Same(plan) if plan.stamps() => self.again(door, seat, asked, &plan).await,
            Known::Same(plan) => Ok(self.say(&plan.said, &plan.reply(), asked)?),
        }
    }

    /// A message that is asked about for the first time.
    async fn first<J: Judge>(
        &self,
        door: &Door<J>,
        seat: &Seat,
        asked: Asked,
        turn: &mut Turn<'_>,
    ) -> Result<Response, Failed> {
        let admitted = door.reception.admit(seat)?;
        let mail = asked.mail(Means::default(), door.reception.limits())?;
        let can_say = |case: &Case| {
            let said = Said::of(&case.reply.verdict);
            Ok(render::changes(&said, &case.reply, &case.mail.recipients, &asked.raw.0).map(drop)?)
        };
        let (_admitted, case) = judged(admitted, mail, asked.body(), self.due, can_say).await?;
        // Not the octets of the answer: they hold the message.
        let plan = Plan::of(&case.reply);
        let keeping = turn.keep(&asked.digest, plan.clone(), !case.reply.owed.is_empty());
        // What was done is done: a disk that hangs does not make its sender bring it once more.
        if tokio::time::timeout_at(self.due, keeping).await.is_err() {
            tracing::warn!(
                "an answer is not written down in time, so another try after a restart would be treated anew"
            );
        }
        Ok(self.say(&plan.said, &case.reply, asked)?)
    }

    /// A message whose answer holds a key, which is not written down: it is found again, and nothing is done anew.
    async fn again<J: Judge>(
        &self,
        door: &Door<J>,
        seat: &Seat,
        asked: Asked,
        plan: &Plan,
    ) -> Result<Response, Failed> {
        let admitted = door.reception.admit(seat)?;
        let mail = asked.mail(Means::default(), door.reception.limits())?;
        let case = admitted.examine(mail, self.due).await?;
        if Plan::of(&case.reply) != *plan {
            return Err(Fault::Refused(Refused::Edit).into());
        }
        Ok(self.say(&plan.said, &case.reply, asked)?)
    }

    /// The answer, which may hold the whole message: it has the room of its request until it is written.
    fn say(&self, said: &Said, reply: &Reply, asked: Asked) -> Result<Response, Fault> {
        let recipients = asked.recipients();
        match render::changes(said, reply, &recipients, &asked.raw.0)? {
            Some(changes) => Ok(self.form.answer(&changes, asked.room)),
            None => Ok(render::nothing()),
        }
    }
}

/// The form of an answer by the content type of its request.
impl Form {
    fn of(fields: &HeaderMap) -> Result<Form, Problem> {
        let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let encoded = fields.get("content-encoding").is_some_and(|coding| coding != "identity");
        Form::named(kind).filter(|_| !encoded).ok_or_else(|| {
            Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send application/json or application/cbor, not encoded further",
            )
        })
    }

    fn answer(self, value: &impl serde::Serialize, room: Room) -> Response {
        match self.write(value) {
            Some(octets) => octets::holding(StatusCode::OK, self.name(), octets, room),
            // A value of ours is always writable; nothing is decided without an answer.
            None => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written").response(),
        }
    }
}
