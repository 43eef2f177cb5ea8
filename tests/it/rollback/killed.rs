//! SIGKILL at any moment of a restore.
