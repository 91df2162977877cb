//! Panics, which the runtime keeps to itself: each breaks a promise.

use std::cell::RefCell;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are remembered, for the thread they happen in.
pub(crate) fn remember() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        LAST.with(|last| *last.borrow_mut() = Some(panic.to_string()));
        before(panic);
    }));
}

/// The last panic of this thread, once.
pub(crate) fn last() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}
