//! Takes over listening sockets that systemd or a parent process handed to us by number.
//! It promises a duplicate of its own, so that nothing is closed twice. One of the two modules with `unsafe`: a descriptor that
//! arrives as a number in a file can be turned into a socket in no other way.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A duplicate of descriptor `number`, or the error that says it is not open.
pub fn duplicate(number: i32) -> io::Result<OwnedFd> {
    if number < 3 {
        let text = "descriptors 0 to 2 are standard input, output and error";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // SAFETY: the borrow ends in this function, and duplicating a number that is not an open descriptor is an error
    // of the system call (EBADF), not undefined behaviour. We never own or close the original.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // Whatever this process opened closes on exec; what survived the exec that started it does not. A reload must not
    // take one of our own sockets for one that was handed over.
    if rustix::io::fcntl_getfd(borrowed)?.contains(rustix::io::FdFlags::CLOEXEC) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nobody handed this descriptor over"));
    }
    borrowed.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_open_is_an_error() {
        assert!(duplicate(9_999).is_err());
        assert!(duplicate(1).is_err());
        assert!(duplicate(-1).is_err());
    }
}
