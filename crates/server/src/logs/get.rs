//! GetLogEvents: one stream, forwards and backwards, with tokens that stay good while it grows.

use api::ServiceError;
use api::logs::{GetLogEventsRequest, GetLogEventsResponse, OutputLogEvent};
use store::logs::{LogEvent, Position};

use super::{
    Call, EVENTS_MAX, PAGE_MAX_BYTES, blocking, error, invalid_token, limit, message, open, required,
};

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// From here on.
    Forward(Position),
    /// Up to here.
    Backward(Position),
    /// The latest events.
    Tail,
}

impl Place {
    fn of(token: Option<&str>, start_from_head: bool) -> Result<Place, ServiceError> {
        let position = |text: &str| text.parse::<Position>().map_err(|_| invalid_token());
        match token.map(|token| token.split_once('/')) {
            Some(Some(("f", text))) => Ok(Place::Forward(position(text)?)),
            Some(Some(("b", text))) => Ok(Place::Backward(position(text)?)),
            Some(_) => Err(invalid_token()),
            None if start_from_head => Ok(Place::Forward(Position::START)),
            None => Ok(Place::Tail),
        }
    }
}

impl Call {
    pub(super) async fn get_log_events(
        &self,
        request: GetLogEventsRequest,
    ) -> Result<GetLogEventsResponse, ServiceError> {
        let group = self.named_group(request.log_group_name, request.log_group_identifier)?;
        let place = Place::of(request.next_token.as_deref(), request.start_from_head == Some(true))?;
        // COMPAT: SA-122 a stream that is not there yet is an error, an empty one is not.
        let stream = self.stream(&group, &required(request.log_stream_name)?).await?;
        let times = self.shown_times(&group, request.start_time, request.end_time).await?;
        let limit = limit(request.limit, EVENTS_MAX);
        let segment = self.segment(&stream);
        blocking(move || {
            let Some(mut reader) = open(&segment)? else {
                return Ok(answer(Vec::new(), Position::START, Position::START));
            };
            let (events, before, after) = match place {
                Place::Forward(from) => {
                    let (events, after) =
                        reader.forward_within(from, times, limit, PAGE_MAX_BYTES).map_err(error)?;
                    let before = events.first().map_or(from, |event| event.position);
                    (events, before, after)
                }
                Place::Backward(end) => {
                    let (events, before) =
                        reader.backward_within(end, times, limit, PAGE_MAX_BYTES).map_err(error)?;
                    (events, before, end)
                }
                Place::Tail => {
                    let end = reader.end().map_err(error)?;
                    let (events, before) =
                        reader.backward_within(end, times, limit, PAGE_MAX_BYTES).map_err(error)?;
                    (events, before, end)
                }
            };
            Ok(answer(events, before, after))
        })
        .await
    }
}

/// COMPAT: SA-118 at the end of a stream the same forward token comes back, and goes on when the stream does.
fn answer(events: Vec<LogEvent>, before: Position, after: Position) -> GetLogEventsResponse {
    let event = |event: LogEvent| OutputLogEvent {
        timestamp: Some(event.time_ms),
        ingestion_time: Some(event.time_ms),
        message: Some(message(event)),
    };
    GetLogEventsResponse {
        events: Some(events.into_iter().map(event).collect()),
        next_forward_token: Some(format!("f/{after}")),
        next_backward_token: Some(format!("b/{before}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tokens_name_a_place() {
        let token = format!("f/{}", Position::START);
        assert_eq!(Place::of(Some(&token), false).unwrap(), Place::Forward(Position::START));
        assert_eq!(Place::of(None, true).unwrap(), Place::Forward(Position::START));
        assert_eq!(Place::of(None, false).unwrap(), Place::Tail);
        for token in ["", "f", "f/", "f/zz", "x/10.0", "10.0", "ü"] {
            assert_eq!(
                Place::of(Some(token), true).unwrap_err().code,
                "InvalidParameterException",
                "{token}"
            );
        }
    }
}
