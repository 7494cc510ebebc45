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
/** How long a reply may take, unless the request says otherwise. */
const REPLY_WITHIN = 30_000;

/** Why a request has failed: the session has refused it, or nothing is known of it. */
export class ChannelError extends Error {
  /**
   * @param {string} message
   * @param {"refused" | "timeout" | "lost" | "closed" | "full"} kind `lost`: the session has been lost, and whether it has
   *   done it is not known.
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

  /** The last request, and those without a reply, in order: by number, the frame and the promise. */
  #last = 0;
  #pending = new Map();

  #tries = 0;
  #delay;
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
    const ref = ++this.#last;
    const frame = { type, ref, ...request };
    return new Promise((resolve, reject) => {
      const entry = { frame, resolve, reject, timer: undefined, isOver: false };
      entry.timer = setTimeout(() => {
        // It stays in the list: the session must get it in order, and perhaps it has.
        entry.isOver = true;
        reject(new ChannelError(`no reply in ${within} ms`, "timeout"));
      }, within);
      this.#pending.set(ref, entry);
      if (this.#state === "open") this.#send(frame);
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
    const socket = new this.#make(this.#url);
    this.#socket = socket;
    const mine = (handle) => (event) => socket === this.#socket && handle(event);
    socket.onopen = mine(() => {
      const token = this.#token;
      socket.send(JSON.stringify({ type: "hello", version: VERSION, token, seen: this.#seen }));
    });
    socket.onmessage = mine((message) => this.#read(message.data));
    socket.onclose = mine(() => this.#again());
    this.#welcome = setTimeout(() => this.#again(), WELCOME_WITHIN);
  }

  /** Lets go of the connection. */
  #drop(code) {
    clearTimeout(this.#welcome);
    clearTimeout(this.#ping);
    clearTimeout(this.#pong);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
  }

  /** The connection is lost: waits, longer each time and not as long as others do, and connects again. */
  #again() {
    this.#drop(4000);
    this.#become("waiting");
    const most = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#tries++);
    this.#delay = setTimeout(() => this.#open(), most * (0.5 + Math.random() / 2));
  }

  #send(frame) {
    this.#acknowledged = this.#seen;
    this.#socket.send(JSON.stringify({ ...frame, seen: this.#seen }));
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
        console.error(`exuvia: ${frame.reason}`);
        break;
    }
    if (this.#seen - this.#acknowledged >= ACK_EVERY && this.#socket) this.#send({ type: "ack" });
  }

  #welcomed(frame) {
    clearTimeout(this.#welcome);
    this.#tries = 0;
    const had = this.#token !== null;
    this.#token = frame.token;
    if (!frame.resumed) {
      this.#seen = 0;
      this.#acknowledged = 0;
    }
    if (!frame.resumed && had) {
      this.#forget("lost", `the session is lost (${frame.reason ?? "unknown"}): join anew`);
    }
    this.#become("open");
    this.#pingLater();
    // What the session has not received, or a new one cannot have.
    for (const [ref, { frame: request }] of this.#pending) {
      if (!frame.resumed || ref > frame.received) this.#send(request);
    }
    if (!frame.resumed && had) {
      this.#lost.call(frame.reason ?? "unknown");
      for (const channel of this.#channels.values()) channel._rejoin();
    }
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
  #wanted = false;
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
   * Joins; the promise has what the session replies. If the session is lost later, the topic is joined again by itself.
   * @param {any} [params] Other parameters than before.
   * @returns {Promise<any>}
   */
  async join(params = this.#params) {
    this.#params = params;
    this.#client.connect();
    this.#wanted = true;
    try {
      const reply = await this.#client._request("join", { topic: this.topic, payload: params });
      this.#joins.call(reply);
      return reply;
    } catch (error) {
      if (error.kind === "refused") this.#wanted = false;
      throw error;
    }
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
    this.#setUsers(new Map());
    await this.#client._request("leave", { topic: this.topic });
  }

  _rejoin() {
    if (!this.#wanted) return;
    this.join().catch((error) => {
      // Who has lost the session again joins again. All else is told to those who listen.
      if (error.kind !== "lost") this._hear("left", error.message);
    });
  }

  _end() {
    this.#wanted = false;
    this.#users = new Map();
  }

  _hear(event, payload) {
    if (event === "presence_state") return this.#setUsers(new Map(Object.entries(payload)));
    if (event === "presence_diff") return this.#change(payload);
    if (event === "left") {
      this.#wanted = false;
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
