//! Gives memory that is free within this thread's allocator back to the system.
//! It promises to change nothing but the resident size. One of the two modules with `unsafe`: the allocator offers the
//! call to C only.
#![allow(unsafe_code)]

/// Returns free pages of this thread's heap. Walks the heap while this thread waits, so call it rarely.
///
/// Without it, what ten thousand parked connections gave back stays resident until this thread allocates again.
pub fn give_back() {
    #[cfg(feature = "mimalloc")]
    // SAFETY: the function takes no pointer and may be called from any thread at any time; it touches nothing that is
    // allocated, only what is free.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
