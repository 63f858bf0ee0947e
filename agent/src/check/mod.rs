//! Can this service move to that host, as it is now? What is found of the service where it runs ([`mose_movable`]), and what the other
//! host has against it or lacks.

mod destination;
mod order;
