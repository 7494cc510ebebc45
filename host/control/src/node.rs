//! The node as a [`Host`].
