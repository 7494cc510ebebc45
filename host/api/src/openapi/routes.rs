//! The table of routes, as the document describes them.

use super::{PATH, Table};
use crate::event::EventLine;
use crate::message::{CallRequest, MessageRequest, Reply, Sent};
use crate::node::{Info, Module, ModuleList, StopOptions, StopReport};
use crate::problem::code::{
    BAD_REQUEST, BUSY, CONFLICT, INTERNAL, LOAD, LOOPS, NO_EARLIER_RELEASE, NO_MODULE, NO_PROCESS,
    NO_RELEASE, NO_REPLY, NO_STORE, NO_TOKEN, NOT_READY, NOT_RESTARTED, NOT_SENT, REFUSED,
    ROLLED_BACK, STOPPING, STORE, TIMEOUT, TOO_LARGE, TOO_MANY_PINS, UNSUPPORTED_MEDIA_TYPE,
    VERIFY,
};
use crate::process::{
    Description, Inspection, Killed, ProcessPage, Restarted, SupervisionTree, Suspended,
};
use crate::query::{KillQuery, ProcessesQuery, TopQuery, TraceQuery, TreeQuery};
use crate::release::{DeployOptions, Pinned, Release, ReleaseList, RollbackOptions, Swap};
use crate::token::{NewToken, Token, TokenCreated, TokenList};
use crate::top::Top;

pub(super) fn describe(table: &mut Table) {
    health(table);
    node(table);
    processes(table);
    process(table);
    releases(table);
    tokens(table);
}

fn health(table: &mut Table) {
    table
        .get("/healthz", "isAlive", "Whether the node's process is alive")
        .about("For liveness probes. Says nothing of the app.")
        .text("text/plain", "It is alive")
        .fails_with(&[]);
    table
        .get("/readyz", "isReady", "Whether the app is up")
        .about(
            "For readiness probes. The app is up when the children of its root supervisor have \
             started, until the node begins to stop.",
        )
        .text("text/plain", "The app is up")
        .fails_with(&[NOT_READY]);
    table
        .get(
            "/metrics",
            "getMetrics",
            "The node's metrics, for Prometheus",
        )
        .text(
            "application/openmetrics-text",
            "The metrics, in the text format of OpenMetrics 1.0",
        )
        .fails_with(&[BUSY, NOT_READY, INTERNAL]);
    table
        .get(PATH, "getApi", "This document")
        .text("application/json", "The document")
        .fails_with(&[]);
}

fn node(table: &mut Table) {
    table
        .get("/v1/node", "getNode", "The state of the node")
        .json::<Info>(200, "The state")
        .fails_with(&[BUSY, INTERNAL]);
    table
        .post("/v1/node/stop", "stopNode", "Stop the node")
        .about("The response is sent when all processes have stopped, or the time is over.")
        .body::<StopOptions>(false)
        .json::<StopReport>(200, "How the processes stopped")
        .fails_with(&[BAD_REQUEST, STOPPING]);
    table
        .get(
            "/v1/events",
            "followEvents",
            "Follow the events of the node",
        )
        .about(
            "Server-sent events, from now on; with the header `Last-Event-ID` those after that \
             event, as far as the node still has them. An event `lagged` says how many were \
             lost. While nothing happens, comments are sent.",
        )
        .stream::<EventLine>("The events, until the node ends")
        .fails_with(&[BUSY]);
    table
        .get(
            "/v1/modules",
            "listModules",
            "The modules of the current release",
        )
        .json::<ModuleList>(200, "The modules, by name")
        .fails_with(&[BUSY, INTERNAL]);
    table
        .get(
            "/v1/modules/{module}",
            "getModule",
            "A module of the current release",
        )
        .json::<Module>(200, "The module")
        .fails_with(&[NO_MODULE, BUSY, INTERNAL]);
}

fn processes(table: &mut Table) {
    table
        .get("/v1/processes", "listProcesses", "List processes")
        .about(
            "In order of their slots. A process that is busy in a turn for long is left out. \
             For the next page, pass `next` as `after`.",
        )
        .query::<ProcessesQuery>()
        .json::<ProcessPage>(200, "A page of the list")
        .fails_with(&[BAD_REQUEST, TOO_LARGE, BUSY, INTERNAL]);
    table
        .get(
            "/v1/top",
            "getTop",
            "Sample what processes and schedulers do",
        )
        .about("Rates are since the previous sample, whichever client took it.")
        .query::<TopQuery>()
        .json::<Top>(200, "The sample")
        .fails_with(&[BAD_REQUEST, TOO_LARGE, BUSY, INTERNAL]);
    table
        .get(
            "/v1/supervision-tree",
            "getSupervisionTree",
            "The supervision tree",
        )
        .query::<TreeQuery>()
        .json::<SupervisionTree>(200, "The root supervisors, and what is below them")
        .fails_with(&[BAD_REQUEST, TOO_LARGE, BUSY, INTERNAL]);
}

fn process(table: &mut Table) {
    table
        .get(
            "/v1/processes/{process}",
            "getProcess",
            "All that is known of a process",
        )
        .about("With its state, which is what the module's `save` returns, run on a copy.")
        .json::<Inspection>(200, "The process")
        .fails_with(&[NO_PROCESS, BUSY, INTERNAL]);
    table
        .delete("/v1/processes/{process}", "killProcess", "Kill a process")
        .about(
            "The process can neither trap nor delay that. Its supervisor may restart it. The \
             node waits up to a second for its exit.",
        )
        .query::<KillQuery>()
        .json::<Killed>(200, "The process was told to exit")
        .fails_with(&[BAD_REQUEST, NO_PROCESS, REFUSED, TOO_LARGE, BUSY, INTERNAL]);
    table
        .post(
            "/v1/processes/{process}/messages",
            "sendMessage",
            "Send a message to a process",
        )
        .body::<MessageRequest>(true)
        .json::<Sent>(202, "The message is in the mailbox")
        .fails_with(&[BAD_REQUEST, NO_PROCESS, NOT_SENT, TOO_LARGE, BUSY, INTERNAL]);
    table
        .post(
            "/v1/processes/{process}/calls",
            "callProcess",
            "Send a request to a process, and wait for its reply",
        )
        .body::<CallRequest>(true)
        .json::<Reply>(200, "The reply")
        .fails_with(&[
            BAD_REQUEST,
            NO_PROCESS,
            NOT_SENT,
            REFUSED,
            TOO_LARGE,
            NO_REPLY,
            BUSY,
            TIMEOUT,
            INTERNAL,
        ]);
    table
        .get(
            "/v1/processes/{process}/functions",
            "listFunctions",
            "The functions that a process accepts",
        )
        .json::<Description>(200, "The functions, as its module describes them")
        .fails_with(&[BAD_REQUEST, NO_PROCESS, BUSY, INTERNAL]);
    table
        .post(
            "/v1/processes/{process}/suspend",
            "suspendProcess",
            "Suspend a process",
        )
        .about(
            "It finishes its handler, and takes no further message until it is resumed. It can \
             still exit, be upgraded and be inspected.",
        )
        .json::<Suspended>(200, "The process is suspended")
        .fails_with(&[BAD_REQUEST, NO_PROCESS, BUSY, INTERNAL]);
    table
        .post(
            "/v1/processes/{process}/resume",
            "resumeProcess",
            "Resume a suspended process",
        )
        .json::<Suspended>(200, "The process is not suspended")
        .fails_with(&[BAD_REQUEST, NO_PROCESS, BUSY, INTERNAL]);
    table
        .post(
            "/v1/processes/{process}/restart",
            "restartProcess",
            "Have a process's supervisor restart it",
        )
        .about("With a fresh state. This does not count towards the restart intensity.")
        .json::<Restarted>(200, "The new process has started")
        .fails_with(&[NO_PROCESS, NOT_RESTARTED, BUSY, INTERNAL]);
    table
        .get(
            "/v1/processes/{process}/trace",
            "traceProcess",
            "Follow the messages that a process receives and sends",
        )
        .about("Server-sent events, without IDs: a trace that breaks off does not continue.")
        .query::<TraceQuery>()
        .stream::<EventLine>("The messages, until there are enough or the process ends")
        .fails_with(&[BAD_REQUEST, NO_PROCESS, TOO_LARGE, BUSY, INTERNAL]);
}

fn releases(table: &mut Table) {
    table
        .get("/v1/releases", "listReleases", "List releases")
        .about(
            "The current release and those that can be rolled back to, newest first: all of the release store, or \
             without one those whose code is still loaded.",
        )
        .json::<ReleaseList>(200, "The releases")
        .fails_with(&[STORE, BUSY, INTERNAL]);
    table
        .post("/v1/releases", "deploy", "Deploy modules")
        .about(
            "All modules of the form are one swap: all are current afterwards, or none. The name \
             of a part is that of the module; its file name says where the bytes are from.",
        )
        .query::<DeployOptions>()
        .modules()
        .json::<Swap>(201, "The modules are current, in a new release")
        .json::<Swap>(200, "They were current already")
        .fails_with(&[
            BAD_REQUEST,
            VERIFY,
            LOOPS,
            ROLLED_BACK,
            CONFLICT,
            TOO_LARGE,
            UNSUPPORTED_MEDIA_TYPE,
            LOAD,
            STORE,
            BUSY,
            INTERNAL,
        ]);
    table
        .get("/v1/releases/{release}", "getRelease", "A release")
        .json::<Release>(200, "The release")
        .fails_with(&[NO_RELEASE, STORE, BUSY, INTERNAL]);
    table
        .get(
            "/v1/releases/{release}/modules/{module}",
            "getReleasedModule",
            "The bytes of a module of a release",
        )
        .about("From the release store.")
        .text("application/wasm", "The bytes")
        .fails_with(&[NO_STORE, NO_RELEASE, NO_MODULE, STORE, BUSY, INTERNAL]);
    table
        .put("/v1/releases/{release}/pin", "pinRelease", "Pin a release")
        .about("It is kept in the release store however many releases follow.")
        .json::<Pinned>(200, "The release is pinned")
        .fails_with(&[NO_STORE, NO_RELEASE, TOO_MANY_PINS, STORE, BUSY, INTERNAL]);
    table
        .delete(
            "/v1/releases/{release}/pin",
            "unpinRelease",
            "Unpin a release",
        )
        .json::<Pinned>(200, "The release is not pinned")
        .fails_with(&[NO_STORE, NO_RELEASE, STORE, BUSY, INTERNAL]);
    table
        .post(
            "/v1/releases/rollback",
            "rollBack",
            "Roll back to the previous release",
        )
        .about(
            "The former versions are current again, in a new release. Those of the release before are not verified, so \
             that it is always possible, as long as their code is loaded. Those of a release that is named, or was \
             committed before the start of the node, are deployed from the release store.",
        )
        .query::<RollbackOptions>()
        .json::<Swap>(201, "The new release is current")
        .json::<Swap>(200, "Its versions were current already")
        .fails_with(&[
            BAD_REQUEST,
            NO_EARLIER_RELEASE,
            NO_STORE,
            NO_RELEASE,
            VERIFY,
            LOOPS,
            ROLLED_BACK,
            CONFLICT,
            LOAD,
            STORE,
            BUSY,
            INTERNAL,
        ]);
}

fn tokens(table: &mut Table) {
    table
        .get("/v1/tokens", "listTokens", "List the tokens")
        .about("Those of clients on other machines, without their secrets.")
        .json::<TokenList>(200, "The tokens")
        .fails_with(&[BUSY, INTERNAL]);
    table
        .post("/v1/tokens", "createToken", "Make a token")
        .about("The response has the token, which is not shown again.")
        .body::<NewToken>(true)
        .json::<TokenCreated>(201, "The token")
        .fails_with(&[BAD_REQUEST, TOO_LARGE, STORE, BUSY, INTERNAL]);
    table
        .delete("/v1/tokens/{token}", "revokeToken", "Revoke a token")
        .about("From now on it is good for nothing.")
        .json::<Token>(200, "What it was")
        .fails_with(&[NO_TOKEN, STORE, BUSY, INTERNAL]);
}
