/**
 * One STOMP connection from its first octet to its last: a socket on one side, a session of the broker on the other.
 *
 * ```
 * opening (CONNECT) > logging-in > running > closing > closed
 * ```
 *
 * An ERROR ends the connection [STOMP 1.2 ERROR]: it is flushed, our side of the socket is ended, and what the peer still
 * sends is read and dropped until he ends his, so that the ERROR is not lost to a reset. `closeTimeoutMs` bounds that.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { InvariantError } from '../../broker/assert.ts';
import type { Alarm, Broker, BrokerError, Connection } from '../../broker/port.ts';
import { type Chunk, receive } from '../chunk.ts';
import { type PeerAddress, peerName, type Transport } from '../gateway.ts';
import { Halt } from '../halt.ts';
import { Outbox, type OutboxEvents } from '../outbox.ts';
import { createTrace } from '../trace.ts';
import type { Headers } from './declarations.ts';
import { DEFECT, type Reply, ReplyError, replyTo } from './errors.ts';
import type { Version } from './escapes.ts';
import { commandId, commandName, FrameHead } from './frame-head.ts';
import { describeFrame, encodeFrame } from './frame-text.ts';
import { headerId } from './header-names.ts';
import { type HeartBeatPeer, startHeartBeats } from './heart-beat.ts';
import { type FrameHandler, FrameInput } from './input.ts';
import { type Login, logIn, refusedVhost, VERSIONS_TEXT } from './login.ts';
import { LF, NUL } from './octets.ts';
import type { ResolvedOptions } from './options.ts';
import { ProtocolError } from './protocol-error.ts';
import { announcedBytes } from './sends.ts';
import { Session, type SessionHost } from './session.ts';

const TRACE = createTrace('stomp');
const HEART_BEAT = Buffer.from([LF]);
const SEND = commandId('SEND');
const ACK = commandId('ACK');
const NACK = commandId('NACK');
const CONNECT = commandId('CONNECT');
const STOMP = commandId('STOMP');
const RECEIPT = headerId('receipt');

/** Largest frame before the login. */
export const FRAME_BYTES_MAX_BEFORE_LOGIN = 64 * 1024;

/** How often a connection whose peer has ended his side looks whether all that he said has been carried out. */
const IDLE_CHECK_MS = 5;

const EVERY_HALT = Halt.control | Halt.publish | Halt.stuck | Halt.turn;

const NO_HEADERS: Headers = new Map();

/** The head of the frame in hand; frames are read one at a time, so one serves all connections. */
const HEAD = new FrameHead();

type State = 'opening' | 'logging-in' | 'running' | 'closing' | 'closed';

export class StompConnection implements FrameHandler, SessionHost, OutboxEvents, HeartBeatPeer {
  readonly broker: Broker;
  readonly options: ResolvedOptions;
  readonly outbox: Outbox;
  readonly traced = TRACE.enabled;
  receivedChunks = 0;

  readonly #socket: Duplex;
  readonly #peer: PeerAddress;
  readonly #name: string;
  readonly #input: FrameInput;
  readonly #onEnded: () => void;
  #state: State = 'opening';
  #version: Version = 0;
  #frameBytesMax: number;
  #session: Session | undefined;
  #connection: Connection | undefined;
  #isAlarmed = false;
  #isBehind = false;
  #saidBytes = 0;
  #stopHeartBeats = (): void => {};
  #timer: NodeJS.Timeout | undefined;

  /** Takes the transport over. `onEnded` is called once, when the socket is gone. */
  constructor(broker: Broker, transport: Transport, options: ResolvedOptions, onEnded: () => void) {
    const { socket, peer } = transport;
    this.broker = broker;
    this.options = options;
    this.#socket = socket;
    this.#peer = peer;
    this.#name = peerName(peer);
    this.#onEnded = onEnded;
    this.#frameBytesMax = Math.min(FRAME_BYTES_MAX_BEFORE_LOGIN, options.frameBytesMax);
    this.outbox = new Outbox(socket, this, options.outbox);
    this.#input = new FrameInput(socket, this);
    this.#endWithin(options.handshakeTimeoutMs, 'not connected within the time limit');
    // Whoever pipes frames into a program like nc ends his side at once, and wants to read the answers.
    socket.allowHalfOpen = true;
    receive(transport, (chunk, start, end) => {
      this.receivedChunks += 1;
      this.#input.onData(chunk, start, end);
    });
    socket.on('end', () => this.#onSocketEnd());
    socket.on('error', (error) => options.log.debug({ peer: this.#name, err: error }, 'socket failed'));
    socket.on('close', () => this.#onSocketClose());
  }

  get halted(): boolean {
    return this.#input.isHalted(Halt.control | Halt.publish | Halt.turn);
  }

  /** Ends the connection, as at a shutdown; what becomes of it is bounded by the time limits. */
  shutDown(): void {
    if (this.#state === 'running') this.refuse(SHUTTING_DOWN, undefined);
    else if (this.#state === 'opening' || this.#state === 'logging-in') this.#socket.destroy();
  }

  // ---- frames

  onFrame(chunk: Chunk, at: number, end: number): number {
    const { octets } = chunk;
    const head = HEAD;
    let receipt: string | undefined;
    // Where a frame that is none would end nobody knows; it is the last one.
    let next = end;
    try {
      head.chunk = chunk;
      if (!head.read(octets, at, end, this.#version)) {
        this.isAllowed(end - at);
        return at;
      }
      if (head.find(RECEIPT) >= 0) receipt = head.text(RECEIPT);
      const bodyEnd = this.#findBodyEnd(head, octets, at, end);
      if (bodyEnd < 0) return at;
      next = bodyEnd + 1;
      if (next - at > this.#frameBytesMax) {
        this.isAllowed(next - at, receipt);
        return next;
      }
      if (this.traced) this.trace('<', describeFrame(head, bodyEnd - head.bodyStart));
      return this.#dispatch(head, bodyEnd, receipt) ? next : at;
    } catch (error) {
      this.#fail(error, receipt);
      return next;
    }
  }

  /** Where the NUL of the frame is; -1 when it has not come yet. Throws `ProtocolError`. */
  #findBodyEnd(head: FrameHead, octets: Buffer, at: number, end: number): number {
    // COMPAT: php clients put a content-length on frames that have no body, and it is wrong.
    const announced = head.command === SEND ? announcedBytes(head) : -1;
    const { bodyStart } = head;
    if (announced < 0) {
      const nul = octets.indexOf(NUL, bodyStart);
      if (nul >= 0 && nul < end) return nul;
      this.isAllowed(end - at);
      return -1;
    }
    if (Number.isNaN(announced)) {
      throw new ProtocolError('bad-content-length', 'content-length must be a number of octets', at);
    }
    const bodyEnd = bodyStart + announced;
    if (!this.isAllowed(bodyEnd + 1 - at, head.text(RECEIPT)) || bodyEnd >= end) return -1;
    if (octets[bodyEnd] !== NUL) {
      const text = `there is no NUL after the ${announced} octets of the body that content-length announces`;
      throw new ProtocolError('missing-nul', text, bodyEnd);
    }
    return bodyEnd;
  }

  frameBytes(octets: Buffer, end: number): number {
    try {
      HEAD.read(octets, 0, end, this.#version);
      const announced = HEAD.command === SEND ? announcedBytes(HEAD) : -1;
      if (announced < 0) return -1;
      // What is wrong with it is found out when the frame is handled, which is at once.
      const bytes = Number.isNaN(announced) ? end : HEAD.bodyStart + announced + 1;
      this.isAllowed(bytes, HEAD.text(RECEIPT));
      return bytes;
    } catch (error) {
      this.#fail(error, undefined);
      return -1;
    }
  }

  isAllowed(bytes: number, receipt?: string): boolean {
    if (bytes <= this.#frameBytesMax) return true;
    const option = this.#state === 'running' ? ', see stomp-frame-bytes-max' : '';
    const text = `a frame may have ${this.#frameBytesMax} octets${option}`;
    this.#fail(new ProtocolError('frame-too-large', text, 0), receipt);
    return false;
  }

  /** Handles a whole frame; false when it is to be handled again later. Throws what is to be told to the peer. */
  #dispatch(head: FrameHead, bodyEnd: number, receipt: string | undefined): boolean {
    const { command } = head;
    const session = this.#session;
    if (session === undefined) return this.#open(head);
    if (command === SEND) {
      // The frame is not taken before publishers may go on.
      if ((this.#isAlarmed || this.#isBehind) && session.isPublish(head)) {
        this.#input.halt(Halt.publish);
        return false;
      }
      const verb = session.onSend(head, bodyEnd, receipt);
      if (verb !== undefined) this.#await(verb, receipt);
    } else if (command === ACK || command === NACK) session.onSettle(head, command === NACK, receipt);
    else {
      const verb = session.onCommand(head, receipt);
      if (verb !== undefined) this.#await(verb, receipt);
    }
    return true;
  }

  /** Halts the input until `verb` is settled. */
  #await(verb: Promise<void>, receipt: string | undefined): void {
    this.#input.halt(Halt.control);
    const resume = (): void => this.#input.resume(Halt.control);
    verb.then(resume, (error: unknown) => {
      this.#fail(error, receipt);
      resume();
    });
  }

  #fail(error: unknown, receipt: string | undefined): void {
    if (this.#session !== undefined) this.#session.fail(error, receipt);
    else {
      const reply = replyTo(error);
      if (reply === undefined) this.reportDefect(error);
      this.refuse(reply ?? DEFECT, receipt);
    }
  }

  trace(direction: '<' | '>', frame: string): void {
    TRACE.line(direction, this.#name, frame);
  }

  // ---- CONNECT

  /** The first frame. False when a session begins without CONNECT, and this frame is its first. */
  #open(head: FrameHead): boolean {
    const isConnect = head.command === CONNECT || head.command === STOMP;
    if (!isConnect && !this.options.implicitConnect) {
      throw new ReplyError('Not connected', `${commandName(head.command)} before CONNECT`);
    }
    this.#state = 'logging-in';
    this.#await(this.#connect(isConnect ? head.table() : NO_HEADERS, isConnect), undefined);
    return isConnect;
  }

  async #connect(headers: Headers, isAnswered: boolean): Promise<void> {
    const login = await logIn(this.broker, this.#peer, headers, this.options);
    const version = (login.version / 10).toFixed(1);
    const peer = { protocol: `STOMP ${version}`, name: this.#name };
    const events = {
      onClose: (error: BrokerError) => this.#onBrokerClose(error),
      onAlarms: (alarms: readonly Alarm[]) => this.#onAlarms(alarms),
      onFlow: (held: boolean) => this.#onFlow(held),
    };
    const connection = await this.broker
      .connect(login.principal, login.vhost, events, peer)
      .catch((error: unknown) => Promise.reject(refusedVhost(error, login.vhost)));
    if (this.#state !== 'logging-in') return connection.close();
    this.#connection = connection;
    const sessionId = `session-${randomBytes(12).toString('base64url')}`;
    this.#session = new Session(this, login, connection, sessionId);
    this.#state = 'running';
    this.#version = login.version;
    this.#frameBytesMax = this.options.frameBytesMax;
    clearTimeout(this.#timer);
    if (isAnswered) this.#writeConnected(login, version, sessionId);
    this.#stopHeartBeats = startHeartBeats(this, login.intervals);
    const { username } = login.principal;
    this.options.log.debug({ peer: this.#name, username, vhost: connection.vhost }, 'connection open');
    return undefined;
  }

  #writeConnected({ intervals, extensions }: Login, version: string, session: string): void {
    const headers = {
      version,
      session,
      server: `Warren/${this.options.version}`,
      'heart-beat': `${intervals.send},${intervals.receive}`,
      extensions: extensions.size > 0 ? [...extensions].join(',') : undefined,
    };
    this.outbox.write(encodeFrame('CONNECTED', headers));
    if (this.traced) this.trace('>', `CONNECTED ${JSON.stringify(headers)}`);
  }

  // ---- errors and the end

  refuse({ message, detail }: Reply, receipt: string | undefined): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.options.log.info({ peer: this.#name }, `closing a STOMP connection: ${message}: ${detail.trim()}`);
    const headers = {
      message,
      // COMPAT: of an ERROR that is plain text/plain, stompit 1.0 throws the error out of a stream that nobody has.
      'content-type': 'text/plain;charset=utf-8',
      version: VERSIONS_TEXT,
      'receipt-id': receipt,
    };
    // First, so that no delivery follows the ERROR.
    this.#leaveBroker();
    this.outbox.write(encodeFrame('ERROR', headers, detail, this.#version === 0 ? 12 : this.#version));
    if (this.traced) this.trace('>', `ERROR ${JSON.stringify(headers)} ${JSON.stringify(detail)}`);
    this.#finish('the peer has not closed its socket after an ERROR');
  }

  reportDefect(error: unknown): void {
    if (error instanceof InvariantError) throw error;
    this.options.log.error({ peer: this.#name, err: error }, 'a frame failed because of a defect');
  }

  onDisconnected(): void {
    this.#finish('the peer has not closed its socket after DISCONNECT');
  }

  #onBrokerClose(error: BrokerError): void {
    const reply = replyTo(error);
    if (reply !== undefined) this.refuse(reply, undefined);
  }

  /** Says what is still to be said, ends our side of the socket, and waits for the peer to end his. */
  #finish(reason: string): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#state = 'closing';
    this.#leaveBroker();
    this.#stopHeartBeats();
    this.outbox.flush();
    this.outbox.close();
    this.#input.discard();
    this.#socket.end();
    this.#endWithin(this.options.closeTimeoutMs, reason);
  }

  #onSocketEnd(): void {
    const isOpen = this.#state === 'running' || this.#state === 'logging-in';
    if (isOpen) this.options.log.debug({ peer: this.#name }, 'client ended its socket without DISCONNECT');
    this.#endWithin(this.options.closeTimeoutMs, 'its socket does not end');
    this.#finishWhenIdle();
  }

  /** What has been received is carried out first, what that brings about is said, and receipts are waited for. */
  #finishWhenIdle(): void {
    if (this.#input.isHalted(EVERY_HALT)) {
      setTimeout(() => this.#finishWhenIdle(), IDLE_CHECK_MS).unref();
      return;
    }
    const finish = (): void => this.#finish('its socket does not end');
    // A new consumer gets its first messages in the next turn.
    const settled = this.#session?.settled() ?? Promise.resolve();
    settled.then(() => setImmediate(() => setImmediate(finish)), finish);
  }

  #onSocketClose(): void {
    this.#state = 'closed';
    this.#leaveBroker();
    clearTimeout(this.#timer);
    this.#stopHeartBeats();
    this.outbox.close();
    this.#input.discard();
    this.#onEnded();
  }

  #leaveBroker(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close().catch((error: unknown) => this.reportDefect(error));
  }

  #endWithin(milliseconds: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.options.log.info({ peer: this.#name, milliseconds }, `socket destroyed: ${reason}`);
      this.#socket.destroy();
    }, milliseconds).unref();
  }

  // ---- flow, alarms, heart-beats

  beforeFlush(): void {}

  onFull(): void {
    this.#session?.pause();
  }

  onStuck(): void {
    this.#input.halt(Halt.stuck);
  }

  onDrain(): void {
    this.#input.resume(Halt.stuck);
    this.#session?.resume();
  }

  #onAlarms(alarms: readonly Alarm[]): void {
    this.#isAlarmed = alarms.length > 0;
    this.#releasePublisher();
  }

  #onFlow(held: boolean): void {
    this.#isBehind = held;
    this.#releasePublisher();
  }

  #releasePublisher(): void {
    if (!this.#isAlarmed && !this.#isBehind) this.#input.resume(Halt.publish);
  }

  isQuiet(): boolean {
    const { writtenBytes, end, pendingBytes } = this.outbox;
    const isQuiet = writtenBytes === this.#saidBytes && end === 0 && pendingBytes === 0;
    this.#saidBytes = writtenBytes;
    return isQuiet;
  }

  sendHeartBeat(): void {
    this.outbox.write(HEART_BEAT);
    // It shall not count as something said when the next one is due.
    this.#saidBytes += HEART_BEAT.length;
    if (this.traced) this.trace('>', 'heart-beat');
  }

  onHeartBeatLost(): void {
    this.options.log.warn({ peer: this.#name }, 'missed heart-beats from client: closing its socket');
    this.#socket.destroy();
  }
}

const SHUTTING_DOWN: Reply = {
  message: 'connection_forced',
  detail: 'CONNECTION_FORCED - broker is shutting down',
  code: 320,
};
