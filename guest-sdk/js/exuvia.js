/**
 * Channels of Exuvia in a browser: an ES module without a build step and without dependencies.
 *
 *     import { Client } from "/exuvia.js";
 *
 *     const client = new Client("/session");
 *     const room = client.channel("room:lobby", { name: "Anna" });
 *     room.on("said", (text) => console.log(text));
 *     room.onPresence((users) => console.log([...users.keys()]));
 *     await room.join();
 *     await room.push("say", "hello");
 *
 * The protocol is in `docs/channels.md`. What is sent is sent once and in order, and what was missed while the connection was
 * lost arrives once and in order, or `onLost` says that it cannot.
 * @module
 */

/** The version of the protocol. */
const VERSION = 1;
/** Requests that may wait for a connection or a reply; more are rejected. */
const MAX_PENDING = 1000;
/** After so many frames the session is told that they have been seen. */
const ACK_EVERY = 32;
/** Milliseconds between two pings, and how long the answer may take. */
const PING_EVERY = 20_000;
const PONG_WITHIN = 10_000;
/** Milliseconds before the first try to connect again, and at most before each of the next ones. */
const FIRST_DELAY = 250;
const MAX_DELAY = 10_000;
/** How long opening a connection may take until the welcome. */
const WELCOME_WITHIN = 10_000;
/** A connection that has stood for so long is a good one: when it is lost, the first try comes soon again. */
const GOOD_AFTER = 10_000;
/** The code with which a WebSocket is closed on which a frame was too large. */
const TOO_LARGE = 1009;
/** How long a reply may take, unless the request says otherwise. */
const REPLY_WITHIN = 30_000;

/** Why a request has failed: the session has refused it, or nothing is known of it. */
export class ChannelError extends Error {
  /**
   * @param {string} message
   * @param {"refused" | "timeout" | "lost" | "closed" | "full" | "invalid" | "too-large"} kind `lost`: the session has been
   *   lost, and whether it has done it is not known. `timeout`: it has not done it and will not if there was no connection all
   *   the time; else that is not known. `invalid`: it cannot be JSON. `too-large`: it has more bytes than the `body` of the
   *   listener.
   */
  constructor(message, kind) {
    super(message);
    this.name = "ChannelError";
    this.kind = kind;
  }
}

/**
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State `waiting`: the connection was lost, and will be tried again.
 * @typedef {{ id: number, meta: any }} Presence One session that is present.
 * @typedef {Map<string, Presence[]>} Users Those who are present by their key, each with its sessions.
 * @typedef {{ joins: Record<string, Presence[]>, leaves: Record<string, Presence[]> }} Diff
 */

/** A list of functions that are called with what happens. */
class Listeners {
  #all = new Set();
  /** @param {Function} listener @returns {() => void} takes it off the list */
  add(listener) {
    this.#all.add(listener);
    return () => this.#all.delete(listener);
  }
  call(...what) {
    for (const listener of [...this.#all]) {
      // One that fails must not keep the others, or the next frame, from being handled.
      try {
        listener(...what);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/** A connection to a session, which is opened again when it is lost. */
export class Client {
  #url;
  #make;
  #socket = null;
  #state = /** @type {State} */ ("closed");
  #states = new Listeners();
  #lost = new Listeners();
  /** @type {Map<string, Channel>} */
  #channels = new Map();

  #token = null;
  /** The last frame that was seen, and the last of which the session knows it. */
  #seen = 0;
  #acknowledged = 0;

  /** The last request, and those without a reply, in order: by number, the frame as text and the promise. */
  #last = 0;
  #pending = new Map();
  /** Whether the last connection was closed because a frame was too large. */
  #isTooLarge = false;

  #tries = 0;
  #delay;
  #good;
  #welcome;
  #ping;
  #pong;
  #online = () => this.#state === "waiting" && this.#open();

  /**
   * @param {string} url The path of the route, or a URL: a number that is the session's own is put behind it.
   * @param {{ WebSocket?: typeof WebSocket, base?: string }} [options] `base`: what `url` is relative to; the page.
   */
  constructor(url, options = {}) {
    const base = new URL(url, options.base ?? globalThis.location?.href);
    base.protocol = base.protocol.replace(/^http/, "ws");
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const number = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    base.pathname = `${base.pathname.replace(/\/$/, "")}/${number}`;
    this.#url = base.href;
    this.#make = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#make) throw new Error("no WebSocket here: pass one as the option `WebSocket`");
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /**
   * Calls a function with each new state.
   * @param {(state: State) => void} listener
   */
  onState(listener) {
    return this.#states.add(listener);
  }

  /**
   * Calls a function when the session is lost: what was missed since cannot be had, and channels are joined anew.
   * @param {(reason: string) => void} listener `unknown`: too late, or the node was started again; `missed`: too much.
   */
  onLost(listener) {
    return this.#lost.add(listener);
  }

  /**
   * Returns the channel of a topic; one for each topic.
   * @param {string} topic
   * @param {any} [params] What the session gets to decide whether the client may join.
   */
  channel(topic, params = null) {
    let channel = this.#channels.get(topic);
    if (!channel) {
      channel = new Channel(this, topic, params);
      this.#channels.set(topic, channel);
    }
    return channel;
  }

  /** Connects. Joining a channel does it, too. */
  connect() {
    if (this.#state !== "closed") return;
    globalThis.addEventListener?.("online", this.#online);
    this.#open();
  }

  /** Ends the session. */
  close() {
    globalThis.removeEventListener?.("online", this.#online);
    clearTimeout(this.#delay);
    this.#drop(1000);
    this.#forget("closed", "the client was closed");
    for (const channel of this.#channels.values()) channel._end();
    this.#token = null;
    this.#become("closed");
  }

  /**
   * Makes a request: it is sent once and in order, now or when there is a connection.
   * @param {"join" | "leave" | "push"} type
   * @param {object} request
   * @param {number} [within] Milliseconds.
   * @returns {Promise<any>}
   */
  _request(type, request, within = REPLY_WITHIN) {
    if (this.#state === "closed") {
      return Promise.reject(new ChannelError("the client is closed", "closed"));
    }
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new ChannelError(`${MAX_PENDING} requests wait already`, "full"));
    }
    let text;
    try {
      // Now, and not when there is a connection: the payload may be another one by then.
      text = JSON.stringify({ type, ref: this.#last + 1, ...request });
    } catch (error) {
      return Promise.reject(new ChannelError(`the payload cannot be JSON: ${error.message}`, "invalid"));
    }
    const ref = ++this.#last;
    return new Promise((resolve, reject) => {
      const entry = { type, text, resolve, reject, timer: undefined, isSent: false, isOver: false };
      entry.timer = setTimeout(() => {
        reject(new ChannelError(`no reply in ${within} ms`, "timeout"));
        entry.isOver = true;
        // One that was sent stays, as perhaps the session has it; and who wants to leave wants it later, too.
        if (!entry.isSent && type !== "leave") this.#pending.delete(ref);
      }, within);
      this.#pending.set(ref, entry);
      if (this.#state === "open") this.#ask(entry);
    });
  }

  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#states.call(state);
  }

  #open() {
    clearTimeout(this.#delay);
    this.#drop(4000);
    this.#become("connecting");
    // Who listens may have closed the client, and even connected it again.
    if (this.#state !== "connecting" || this.#socket) return;
    let socket;
    try {
      socket = new this.#make(this.#url);
    } catch (error) {
      console.error(error);
      return this.#again();
    }
    this.#socket = socket;
    const mine = (handle) => (event) => socket === this.#socket && handle(event);
    socket.onopen = mine(() => {
      const token = this.#token;
      socket.send(JSON.stringify({ type: "hello", version: VERSION, token, seen: this.#seen }));
    });
    socket.onmessage = mine((message) => this.#read(message.data));
    socket.onclose = mine((event) => {
      this.#isTooLarge = event.code === TOO_LARGE;
      this.#again();
    });
    this.#welcome = setTimeout(() => this.#again(), WELCOME_WITHIN);
  }

  /** Lets go of the connection. */
  #drop(code) {
    clearTimeout(this.#welcome);
    clearTimeout(this.#ping);
    clearTimeout(this.#pong);
    clearTimeout(this.#good);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
  }

  /** The connection is lost: waits, longer each time and not as long as others do, and connects again. */
  #again() {
    this.#drop(4000);
    this.#become("waiting");
    if (this.#state !== "waiting") return;
    clearTimeout(this.#delay);
    const most = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#tries++);
    this.#delay = setTimeout(() => this.#open(), most * (0.5 + Math.random() / 2));
  }

  #send(frame) {
    this.#acknowledged = this.#seen;
    this.#socket.send(JSON.stringify({ ...frame, seen: this.#seen }));
  }

  /** Sends a request, which is an object as text. */
  #ask(entry) {
    entry.isSent = true;
    this.#acknowledged = this.#seen;
    this.#socket.send(`${entry.text.slice(0, -1)},"seen":${this.#seen}}`);
  }

  /** Asks now and then whether the session is there: a connection that is lost is not always told. */
  #pingLater() {
    this.#ping = setTimeout(() => {
      this.#send({ type: "ping" });
      this.#pong = setTimeout(() => this.#again(), PONG_WITHIN);
    }, PING_EVERY);
  }

  #read(text) {
    const frame = JSON.parse(text);
    if (frame.type === "welcome") return this.#welcomed(frame);
    if (frame.seq !== undefined) {
      // A frame that was seen before; and one too many means that one was lost, which a new connection brings.
      if (frame.seq <= this.#seen) return;
      if (frame.seq !== this.#seen + 1) return this.#again();
      this.#seen = frame.seq;
    }
    switch (frame.type) {
      case "pong":
        clearTimeout(this.#pong);
        this.#pingLater();
        break;
      case "reply":
        this.#replied(frame);
        break;
      case "event":
        this.#channels.get(frame.topic)?._hear(frame.event, frame.payload);
        break;
      case "error":
        // One that is about a request is the reply to it.
        if (this.#pending.has(frame.ref)) this.#replied({ ref: frame.ref, error: frame.reason });
        else console.error(`exuvia: ${frame.reason}`);
        break;
    }
    if (this.#seen - this.#acknowledged >= ACK_EVERY && this.#socket) this.#send({ type: "ack" });
  }

  #welcomed(frame) {
    clearTimeout(this.#welcome);
    this.#good = setTimeout(() => (this.#tries = 0), GOOD_AFTER);
    const isLost = !frame.resumed && this.#token !== null;
    const reason = frame.reason ?? "unknown";
    this.#token = frame.token;
    if (!frame.resumed) {
      this.#seen = 0;
      this.#acknowledged = 0;
    }
    if (isLost) this.#forget("lost", `the session is lost (${reason}): join anew`);
    this.#state = "open";
    this.#pingLater();
    this.#resend(frame.resumed ? frame.received : 0);
    if (isLost) for (const channel of this.#channels.values()) channel._rejoin();
    // Last: what those who listen ask for has larger numbers than all that was asked for before, and must be sent after it.
    this.#states.call("open");
    if (isLost) this.#lost.call(reason);
  }

  /** Sends what the session has not received. */
  #resend(received) {
    let missing = [...this.#pending].filter(([ref]) => ref > received);
    // Nobody waits for these any more, and so they are better not done than late.
    const late = missing.filter(([, { isOver, type }]) => isOver && type !== "leave");
    for (const [ref] of late) this.#pending.delete(ref);
    missing = missing.filter(([ref]) => this.#pending.has(ref));
    const sent = missing.filter(([, { isSent }]) => isSent);
    if (this.#isTooLarge && sent.length > 0) {
      // One of them was too large, so the largest is. It would be so each time.
      const [ref, entry] = sent.reduce((most, one) => (one[1].text.length > most[1].text.length ? one : most));
      this.#pending.delete(ref);
      clearTimeout(entry.timer);
      entry.reject(new ChannelError("the request is too large: see `body` of the listener", "too-large"));
    }
    this.#isTooLarge = false;
    for (const [ref, entry] of missing) if (this.#pending.has(ref)) this.#ask(entry);
  }

  #replied(frame) {
    const entry = this.#pending.get(frame.ref);
    if (!entry) return;
    this.#pending.delete(frame.ref);
    clearTimeout(entry.timer);
    // The session has received all before it: what is waited for no more is not sent again.
    for (const [ref, { isOver }] of this.#pending) {
      if (ref > frame.ref) break;
      if (isOver) this.#pending.delete(ref);
    }
    if ("error" in frame) entry.reject(new ChannelError(frame.error, "refused"));
    else entry.resolve(frame.ok);
  }

  /** Nobody will reply to these. */
  #forget(kind, why) {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const entry of pending) {
      clearTimeout(entry.timer);
      entry.reject(new ChannelError(why, kind));
    }
  }
}

/** What is said in one topic. {@link Client#channel} makes it. */
export class Channel {
  #client;
  #params;
  /** Whether the client shall be in it, and whether it is: in the session that there is now. */
  #wanted = false;
  #isJoined = false;
  /** The join that has no reply yet. @type {Promise<any> | null} */
  #joining = null;
  /** The number of the last join: the client may have left meanwhile, or the session may be lost. */
  #number = 0;
  /** Whether there was a list: differences before it do not count. */
  #hasList = false;
  /** @type {Map<string, Listeners>} */
  #events = new Map();
  #presences = new Listeners();
  #joins = new Listeners();
  /** @type {Users} */
  #users = new Map();

  /** @param {Client} client @param {string} topic @param {any} params */
  constructor(client, topic, params) {
    this.#client = client;
    this.#params = params;
    /** The topic. */
    this.topic = topic;
  }

  /** @returns {Users} Those who are present. */
  get users() {
    return this.#users;
  }

  /**
   * Joins; the promise has what the session replies. If the session is lost later, the topic is joined again by itself. While
   * a join waits for its reply, the promise is that of this join. One without a reply in time is followed by a leave.
   * @param {any} [params] Other parameters than before.
   * @returns {Promise<any>}
   */
  join(params = this.#params) {
    this.#params = params;
    this.#client.connect();
    this.#wanted = true;
    this.#joining ??= this.#join();
    return this.#joining;
  }

  async #join() {
    const number = ++this.#number;
    try {
      const reply = await this.#client._request("join", { topic: this.topic, payload: this.#params });
      if (number === this.#number) this.#isJoined = true;
      this.#joins.call(reply);
      return reply;
    } catch (error) {
      const isRefused = ["refused", "invalid", "too-large"].includes(error.kind);
      // One who has joined already is refused, too.
      const isOut = number === this.#number && !this.#isJoined;
      if (isOut && isRefused) this.#wanted = false;
      // The session may have it, or get it later: the next join would be refused then.
      if (isOut && error.kind === "timeout") this.leave().catch(() => {});
      throw error;
    } finally {
      if (number === this.#number) this.#joining = null;
    }
  }

  /** It is in the topic no more; a join that has no reply yet is no more the last one. */
  #out() {
    this.#number++;
    this.#joining = null;
    this.#isJoined = false;
    this.#hasList = false;
  }

  /**
   * Calls a function with the reply to each join, also to those after a session was lost.
   * @param {(reply: any) => void} listener
   */
  onJoin(listener) {
    return this.#joins.add(listener);
  }

  /**
   * Calls a function with the payload of each event of this name. `left`: the session has put the client out.
   * @param {string} event
   * @param {(payload: any) => void} listener
   * @returns {() => void} Ends that.
   */
  on(event, listener) {
    if (!this.#events.has(event)) this.#events.set(event, new Listeners());
    return this.#events.get(event).add(listener);
  }

  /**
   * Calls a function with those who are present, whenever that changes, and with what has changed.
   * @param {(users: Users, diff?: Diff) => void} listener Without a difference the whole list is new.
   */
  onPresence(listener) {
    return this.#presences.add(listener);
  }

  /**
   * Says something to the session; the promise has its reply.
   * @param {string} event
   * @param {any} [payload]
   * @param {{ within?: number }} [options] How long the reply may take, in milliseconds.
   * @returns {Promise<any>}
   */
  push(event, payload = null, options = {}) {
    return this.#client._request("push", { topic: this.topic, event, payload }, options.within);
  }

  /** Leaves. */
  async leave() {
    this.#wanted = false;
    this.#out();
    const left = this.#client._request("leave", { topic: this.topic });
    this.#setUsers(new Map());
    await left;
  }

  /** The session is a new one. */
  _rejoin() {
    this.#out();
    if (!this.#wanted) return;
    this.join().catch((error) => {
      // Who has lost the session again joins again, and who has closed the client knows. All else is told to those who listen.
      if (error.kind !== "lost" && error.kind !== "closed") this._hear("left", error.message);
    });
  }

  _end() {
    this.#wanted = false;
    this.#out();
    this.#users = new Map();
  }

  _hear(event, payload) {
    if (event === "presence_state") {
      // Who has left does not see what was on its way.
      if (!this.#wanted) return;
      this.#hasList = true;
      return this.#setUsers(new Map(Object.entries(payload)));
    }
    if (event === "presence_diff") return this.#hasList && this.#change(payload);
    if (event === "left") {
      this.#wanted = false;
      this.#out();
      this.#setUsers(new Map());
    }
    this.#events.get(event)?.call(payload);
  }

  #setUsers(users) {
    this.#users = users;
    this.#presences.call(users);
  }

  /** @param {Diff} diff */
  #change(diff) {
    const without = (list, gone) => (list ?? []).filter((one) => !gone.some(({ id }) => id === one.id));
    for (const [key, gone] of Object.entries(diff.leaves)) {
      const left = without(this.#users.get(key), gone);
      if (left.length > 0) this.#users.set(key, left);
      else this.#users.delete(key);
    }
    // One that is there already shows something else.
    for (const [key, come] of Object.entries(diff.joins)) {
      this.#users.set(key, [...without(this.#users.get(key), come), ...come]);
    }
    this.#presences.call(this.#users, diff);
  }
}
