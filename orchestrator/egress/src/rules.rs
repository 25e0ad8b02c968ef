//! The enclave's table of rules, as messages of nf_tables.

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute,
    TableMessage,
};

use crate::destination::{Destination, Host, Port};
use crate::expression::{
    COUNTER, ESTABLISHED, Expression, RELATED, accept, count, drop, from_loopback, goto, is_reply, is_tcp, log, number,
    reset, socket_user, state, text, to_net, to_port,
};

/// The table's name.
pub(crate) const TABLE: &str = "enclave";
/// The group of NFLOG that refused packets are sent to.
pub(crate) const LOG_GROUP: u16 = 1;
/// The name and counter of packets of no process: the kernel's own, such as multicast listener reports.
const NO_PROCESS: &str = "kernel";

/// NF_DROP (linux/netfilter.h).
const POLICY_DROP: u32 = 0;
/// NF_IP_PRI_FILTER (linux/netfilter_ipv4.h).
const PRIORITY_FILTER: u32 = 0;

/// What each process may reach, and what may reach the enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// All processes that may open IP sockets.
    pub processes: Vec<Process>,
    /// TCP ports that are open to the network.
    pub listen: Vec<u16>,
}

/// A process and its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Unique. Names its chain, its counter, and its refused packets.
    pub name: String,
    /// Its UID, which no other process has.
    pub user: u32,
    /// What it may reach.
    pub destinations: Vec<Destination>,
}

/// A part of the table.
pub(crate) struct Part {
    /// For errors.
    pub(crate) name: String,
    pub(crate) message: NfTablesMessage,
    /// Of its netlink message.
    pub(crate) flags: u16,
}

impl Rules {
    /// The table, in the order in which the kernel has to get its parts.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = vec![table()];
        let names = self.processes.iter().map(|process| process.name.as_str());
        parts.extend(names.clone().chain([NO_PROCESS]).map(counter));
        parts.push(base_chain("input", InetHookNumber::LocalIn));
        parts.push(base_chain("output", InetHookNumber::LocalOut));
        parts.extend(names.map(|name| chain(&chain_of(name))));
        parts.extend(self.input().into_iter().map(|expressions| rule("input", expressions)));
        parts.extend(self.output().into_iter().map(|expressions| rule("output", expressions)));
        for process in &self.processes {
            let chain = chain_of(&process.name);
            parts.extend(process.rules().into_iter().map(|expressions| rule(&chain, expressions)));
        }
        parts
    }

    fn input(&self) -> Vec<Vec<Expression>> {
        let ports = self.listen.iter().map(|port| Port::Tcp(*port)).chain([Port::Ping]);
        let open = ports.flat_map(|port| to_port(port, None)).map(|matches| [matches, accept()].concat());
        // What comes from the enclave itself has passed the other chain.
        let first = [[state(ESTABLISHED | RELATED), accept()].concat(), [from_loopback(), accept()].concat()];
        first.into_iter().chain(open).collect()
    }

    fn output(&self) -> Vec<Vec<Expression>> {
        let judge = |process: &Process| [socket_user(process.user), goto(&chain_of(&process.name))].concat();
        let mut rules = vec![
            // Answers to those who may connect, and the resets of refused connections.
            [is_reply(), accept()].concat(),
            // What is still queued when a program closes its socket has no UID any more. Only TCP queues, and only TCP
            // cannot use the connection of another process.
            [is_tcp(), state(ESTABLISHED), accept()].concat(),
        ];
        rules.extend(self.processes.iter().map(judge));
        rules.push(count(NO_PROCESS));
        rules
    }
}

impl Process {
    fn rules(&self) -> Vec<Vec<Expression>> {
        let mut rules: Vec<_> = self.destinations.iter().flat_map(allow).collect();
        rules.push([count(&self.name), log(LOG_GROUP, &self.name)].concat());
        // At once, in place of two minutes of retries. Anything but TCP gets EPERM from the drop.
        rules.push([is_tcp(), reset()].concat());
        rules.push(drop());
        rules
    }
}

fn allow(destination: &Destination) -> Vec<Vec<Expression>> {
    let (net, ports) = match destination {
        Destination::Anywhere => return vec![accept()],
        Destination::At(Host::Name(_), port) => (None, to_port(*port, None)),
        Destination::At(Host::Net(net), port) => (Some(*net), to_port(*port, Some(*net))),
    };
    let to_net = |net: Option<IpNet>| net.map(to_net).unwrap_or_default();
    ports.into_iter().map(|port| [to_net(net), port, accept()].concat()).collect()
}

/// With a prefix, since a service may be called `input`.
fn chain_of(process: &str) -> String {
    format!("from-{process}")
}

fn table() -> Part {
    let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
    Part {
        name: "the table".to_owned(),
        message: NfTablesMessage::NewTable(TableMessage { attributes }),
        // A second table of this name would be merged with the first.
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

fn counter(name: &str) -> Part {
    /// NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA.
    const TABLE_NAME: u16 = 1;
    const NAME: u16 = 2;
    const TYPE: u16 = 3;
    const DATA: u16 = 4;
    let empty = DefaultNla::new(DATA | NLA_F_NESTED, Vec::new());
    let attributes = vec![text(TABLE_NAME, TABLE), text(NAME, name), number(TYPE, COUNTER), empty];
    Part { name: format!("the counter {name}"), message: NfTablesMessage::NewObject(attributes), flags: NLM_F_CREATE }
}

fn base_chain(name: &str, hook: InetHookNumber) -> Part {
    let hook = vec![Hook::Number(hook.into()), Hook::Priority(PRIORITY_FILTER)];
    let kind = ChainAttribute::Type("filter".to_owned());
    chain_with(name, vec![ChainAttribute::Hook(hook), ChainAttribute::Policy(POLICY_DROP), kind])
}

fn chain(name: &str) -> Part {
    chain_with(name, Vec::new())
}

fn chain_with(name: &str, more: Vec<ChainAttribute>) -> Part {
    let names = vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name.to_owned())];
    let message = NfTablesMessage::NewChain(ChainMessage { attributes: [names, more].concat() });
    Part { name: format!("the chain {name}"), message, flags: NLM_F_CREATE }
}

fn rule(chain: &str, expressions: Vec<Expression>) -> Part {
    let attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    let message = NfTablesMessage::NewRule(RuleMessage { attributes });
    Part { name: format!("a rule of the chain {chain}"), message, flags: NLM_F_CREATE | NLM_F_APPEND }
}
