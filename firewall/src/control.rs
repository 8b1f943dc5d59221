//! Who tells the firewall what to do: the command line, the configuration, the admin socket.

pub mod admin;
pub mod capture;
pub mod check;
pub mod checks;
pub mod cli;
pub mod config;
pub mod confirmation;
pub mod daemon;
pub mod doctor;
pub mod enforcement;
pub mod exposition;
pub mod generations;
pub mod keeping;
pub mod kernel_plane;
pub mod management;
pub mod notify;
pub mod panic_allow;
pub mod pcapng;
pub mod policy;
pub mod settings;
pub mod socket;
pub mod status;
pub mod talkers;
pub mod top;
pub mod watchdog;
pub mod worker;
