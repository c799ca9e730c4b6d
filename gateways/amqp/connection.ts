/**
 * One AMQP connection from its first octet to its last: a socket on one side, a connection of the broker on the other.
 *
 * ```
 * opening (protocol header) > handshake > running > closing (our connection.close awaits its close-ok) > closed
 * ```
 *
 * Faults of the peer become `channel.close` or `connection.close` with RabbitMQ's codes and texts. After a
 * connection.close from this side frames are dropped until close-ok; after a fault of framing there are no frames any
 * more, and everything is dropped. Either state ends by itself after `closeTimeoutMs`.
 */
import type { Duplex } from 'node:stream';
import { InvariantError } from '../../broker/assert.ts';
import type { Alarm, Broker, BrokerError, Connection } from '../../broker/port.ts';
import { Chunk, type ChunkSink, receive } from '../chunk.ts';
import { type PeerAddress, peerName, type Transport } from '../gateway.ts';
import { Halt } from '../halt.ts';
import { Outbox, type OutboxEvents } from '../outbox.ts';
import { createTrace } from '../trace.ts';
import type { AmqpChannel } from './channel.ts';
import { FRAME_END, FRAME_HEARTBEAT, FRAME_METHOD, FRAME_OVERHEAD_BYTES } from './constants.ts';
import { frameError, type Reply, ReplyError, replyText, replyTo, unexpectedFrame } from './errors.ts';
import { describeArguments } from './frame-text.ts';
import { type FrameHost, Frames } from './frames.ts';
import { type Agreement, Handshake, type HandshakeHost, LoginRefused, SilentClose } from './handshake.ts';
import { type HeartbeatPeer, startHeartbeat } from './heartbeat.ts';
import { FrameInput } from './input.ts';
import { decodeArguments, encodeMethod, type MethodArguments, type MethodName, methodName } from './methods.ts';
import type { ResolvedOptions } from './options.ts';
import { judgeOpening, openingAdvice, PROTOCOL_HEADER } from './protocol-header.ts';

const TRACE = createTrace('amqp');
const HEARTBEAT_FRAME = Buffer.from([FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
/** Payloads to a peer that set no limit. */
const UNLIMITED_PAYLOAD_BYTES = 0x7fffffff;

const CONNECTION_FORCED = 320;

const EVERY_HALT = Halt.control | Halt.publish | Halt.stuck;

type State = 'opening' | 'handshake' | 'running' | 'closing' | 'closed';

export class AmqpConnection implements FrameHost, HandshakeHost, OutboxEvents, HeartbeatPeer {
  readonly broker: Broker;
  readonly peer: PeerAddress;
  readonly options: ResolvedOptions;
  readonly outbox: Outbox;
  readonly name: string;
  readonly traced = TRACE.enabled;
  connection: Connection | undefined;
  payloadBytesMax = UNLIMITED_PAYLOAD_BYTES;
  publishersHeld = false;
  receivedChunks = 0;

  readonly #socket: Duplex;
  readonly #input: FrameInput;
  readonly #frames: Frames;
  readonly #handshake: Handshake;
  readonly #onEnded: () => void;
  #state: State = 'opening';
  /** What has come of the protocol header; undefined once it has been judged. */
  #opening: Buffer | undefined = Buffer.alloc(0);
  #agreement: Agreement | undefined;
  #alarms: readonly Alarm[] = [];
  /** The store is behind with writing. */
  #flowHeld = false;
  /** The peer has been told that it is blocked. */
  #toldBlocked = false;
  #holdingConfirms: AmqpChannel[] = [];
  #saidBytes = 0;
  #stopHeartbeat = (): void => {};
  #timer: NodeJS.Timeout | undefined;

  /** Takes the transport over. `onEnded` is called once, when the socket is gone. */
  constructor(broker: Broker, transport: Transport, options: ResolvedOptions, onEnded: () => void) {
    const { socket, peer } = transport;
    this.broker = broker;
    this.peer = peer;
    this.options = options;
    this.name = peerName(peer);
    this.#socket = socket;
    this.#onEnded = onEnded;
    this.outbox = new Outbox(socket, this, options.outbox);
    this.#frames = new Frames(this, options.frameMaxBytes, options.bodyBytesMax);
    this.#input = new FrameInput(socket, this.#frames);
    this.#handshake = new Handshake(this);
    this.#endWithin(options.handshakeTimeoutMs, 'no connection.open within the time limit');
    receive(transport, this.#onData);
    socket.on('end', () => this.#onSocketEnd());
    socket.on('error', (error) => options.log.debug({ peer: this.name, err: error }, 'socket failed'));
    socket.on('close', () => this.#onSocketClose());
  }

  get halted(): boolean {
    return this.#input.isHalted(Halt.control | Halt.publish | Halt.turn);
  }

  get wantsCancelNotice(): boolean {
    return this.#agreement?.capabilities.has('consumer_cancel_notify') ?? false;
  }

  /** Ends the connection with 320, as at a shutdown; what becomes of it is bounded by the time limits. */
  shutDown(): void {
    if (this.#state === 'running') this.refuse({ code: CONNECTION_FORCED, explanation: 'broker is shutting down' }, 0);
    else if (this.#state === 'opening' || this.#state === 'handshake') this.#socket.destroy();
    else if (this.#state === 'closed') this.#socket.end();
  }

  // ---- the opening and the handshake

  readonly #onData: ChunkSink = (chunk, start, end) => {
    this.receivedChunks += 1;
    if (this.#opening === undefined) this.#input.onData(chunk, start, end);
    else this.#onOpening(Buffer.concat([this.#opening, chunk.octets.subarray(start, end)]));
  };

  /** What has come until the protocol header is there. */
  #onOpening(octets: Buffer): void {
    const opening = judgeOpening(octets);
    if (opening === 'undecided') {
      this.#opening = octets;
      return;
    }
    this.#opening = undefined;
    if (opening === 'amqp') {
      this.#state = 'handshake';
      this.#handshake.start();
      this.#input.onData(new Chunk(octets), PROTOCOL_HEADER.length, octets.length);
      return;
    }
    const fields = { peer: this.name, octets: octets.subarray(0, PROTOCOL_HEADER.length).toString('latin1') };
    this.options.log.warn(fields, openingAdvice(opening));
    this.outbox.write(PROTOCOL_HEADER);
    this.#finish();
  }

  onAgreed(agreement: Agreement): void {
    const { channelMax, frameMaxBytes, heartbeatSeconds } = agreement;
    this.#agreement = agreement;
    this.#frames.agree(channelMax, frameMaxBytes);
    if (frameMaxBytes !== 0) this.payloadBytesMax = frameMaxBytes - FRAME_OVERHEAD_BYTES;
    if (heartbeatSeconds !== 0) this.#stopHeartbeat = startHeartbeat(this, heartbeatSeconds);
  }

  async onOpen(vhost: string): Promise<void> {
    const agreement = this.#agreement as Agreement;
    const peer = { protocol: 'AMQP 0-9-1', name: this.name, properties: agreement.clientProperties };
    const events = {
      onClose: (error: BrokerError) => this.#onBrokerClose(error),
      onAlarms: (alarms: readonly Alarm[]) => this.#onAlarms(alarms),
      onFlow: (held: boolean) => this.#onFlow(held),
    };
    const connection = await this.broker.connect(agreement.principal, vhost, events, peer).catch((error: unknown) => {
      const reply = replyTo(error);
      // An empty name is what a URL ending in a slash means to many clients.
      if (reply === undefined || vhost !== '') throw error;
      throw new ReplyError(
        reply.code,
        `${reply.explanation} (the name is empty: did you mean '/'? In a URL it is %2f)`,
      );
    });
    if (this.#state !== 'handshake') {
      await connection.close();
      return;
    }
    this.connection = connection;
    this.#state = 'running';
    clearTimeout(this.#timer);
    this.send('connection.open-ok', { knownHosts: '' });
    const { username } = agreement.principal;
    this.options.log.debug({ peer: this.name, username, vhost }, 'connection open');
  }

  // ---- frames of the connection itself

  onOwnFrame(type: number, channel: number, octets: Buffer, start: number, end: number): void {
    const ending = this.#state === 'closing' || this.#state === 'closed';
    if (type === FRAME_METHOD && end - start >= 4 && channel === 0) {
      const id = octets.readUInt32BE(start);
      this.#onOwnMethod(methodName(id), id, octets, start + 4, end);
    } else if (!ending && !(type === FRAME_HEARTBEAT && channel === 0 && start === end)) {
      this.refuse(misplaced(type, octets.subarray(start, end)), 0);
    }
  }

  #onOwnMethod(name: MethodName | undefined, id: number, octets: Buffer, start: number, end: number): void {
    try {
      const verb = this.#ownVerb(name, octets, start, end);
      if (verb !== undefined) this.awaitVerb(verb, undefined, id);
    } catch (error) {
      this.#frames.fail(error, undefined, id);
    }
  }

  #ownVerb(name: MethodName | undefined, octets: Buffer, start: number, end: number): Promise<void> | void {
    if (this.#state === 'handshake') {
      if (name !== 'connection.close') return this.#handshake.onMethod(name, octets, start, end);
      return this.#onPeerClose();
    }
    if (this.#state !== 'running') {
      if (name === 'connection.close-ok') this.#finish();
      // Both sides have closed at the same time. [AMQP 1.4.2.9]
      else if (name === 'connection.close') this.send('connection.close-ok', {});
      return undefined;
    }
    if (name === 'connection.close') return this.#onPeerClose();
    if (name === 'connection.update-secret') {
      decodeArguments(name, octets, start, end);
      return this.#onUpdateSecret();
    }
    if (name === undefined) throw new ReplyError(503, 'unimplemented method');
    throw new ReplyError(504, 'unexpected method in connection state running');
  }

  async #onUpdateSecret(): Promise<void> {
    this.connection?.renew(await this.#handshake.renew());
    this.send('connection.update-secret-ok', {});
  }

  /** connection.close: everything is settled before the close-ok, so that exclusive queues are gone when it arrives. */
  async #onPeerClose(): Promise<void> {
    for (const channel of this.#frames.channels()) channel.fallSilent();
    await this.connection?.close();
    this.connection = undefined;
    this.send('connection.close-ok', {});
    this.#fallDeaf('the peer has not ended its socket after its connection.close');
  }

  awaitVerb(verb: Promise<void>, channel: AmqpChannel | undefined, method: number): void {
    this.#input.halt(Halt.control);
    const resume = (): void => this.#input.resume(Halt.control);
    verb.then(resume, (error: unknown) => {
      if (error instanceof SilentClose) this.#finish();
      else this.#frames.fail(error, channel, error instanceof LoginRefused ? 0 : method);
      resume();
    });
  }

  /** Writes a method frame of the connection; after a connection.close only the close-ok. */
  send<M extends MethodName>(name: M, args: MethodArguments<M>): void {
    // A verb that was under way when the connection was closed has nobody to answer any more.
    if (this.#state === 'closing' && name !== 'connection.close-ok') return;
    this.outbox.write(encodeMethod(0, name, args));
    if (this.traced) this.trace('>', `0 ${name} ${describeArguments(args)}`);
  }

  trace(direction: '<' | '>', frame: string): void {
    TRACE.line(direction, this.name, frame);
  }

  // ---- errors and the end

  refuse(reply: Reply, methodId: number): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    const text = replyText(reply);
    const fields = { peer: this.name, code: reply.code };
    // Somebody here has ended it, knowing why.
    if (reply.code === CONNECTION_FORCED) this.options.log.info(fields, `closing the connection: ${text}`);
    else this.options.log.warn(fields, `closing the connection: ${text}`);
    for (const channel of this.#frames.channels()) channel.fallSilent();
    // First, so that no delivery to another channel follows the close.
    this.#leaveBroker();
    this.send('connection.close', {
      replyCode: reply.code,
      replyText: text,
      classId: methodId >>> 16,
      methodId: methodId & 0xffff,
    });
    this.#state = 'closing';
    this.outbox.flush();
    this.#endWithin(this.options.closeTimeoutMs, 'no connection.close-ok within the time limit');
    this.#input.resume(EVERY_HALT);
  }

  loseSync(reply: Reply): void {
    this.refuse(reply, 0);
    this.#input.discard();
  }

  onChannelRefused(channel: number, reply: Reply): void {
    this.options.log.info({ peer: this.name, channel, code: reply.code }, `closing a channel: ${replyText(reply)}`);
  }

  reportDefect(error: unknown): Reply {
    if (error instanceof InvariantError) throw error;
    this.options.log.error({ peer: this.name, err: error }, 'a method failed because of a defect');
    return { code: 541, explanation: '' };
  }

  #onBrokerClose(error: BrokerError): void {
    const reply = replyTo(error);
    if (reply !== undefined) this.refuse(reply, 0);
  }

  /** Nothing more is said or heard; the socket ends when all has been sent. */
  #finish(): void {
    if (this.#state === 'closed') return;
    this.#fallDeaf('the peer has not closed its socket within the time limit');
    this.#socket.end();
  }

  /**
   * Nothing more is said or heard, and it is for the peer to end the socket. After a close-ok that is how RabbitMQ leaves
   * it: COMPAT: a client that is still writing (Go's amqp091, closed by many at once) takes an earlier end for a fault.
   */
  #fallDeaf(reason: string): void {
    this.#state = 'closed';
    this.#leaveBroker();
    this.outbox.flush();
    this.outbox.close();
    this.#input.discard();
    this.#endWithin(this.options.closeTimeoutMs, reason);
  }

  #onSocketEnd(): void {
    if (this.#state === 'running')
      this.options.log.info({ peer: this.name }, 'client ended its socket without a close');
    this.#finish();
  }

  #onSocketClose(): void {
    if (this.#state === 'running') this.options.log.info({ peer: this.name }, 'client lost without a close');
    this.#state = 'closed';
    this.#leaveBroker();
    clearTimeout(this.#timer);
    this.#stopHeartbeat();
    this.outbox.close();
    this.#input.discard();
    this.#onEnded();
  }

  #leaveBroker(): void {
    const { connection } = this;
    this.connection = undefined;
    connection?.close().catch((error: unknown) => this.reportDefect(error));
  }

  #endWithin(milliseconds: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.options.log.info({ peer: this.name, milliseconds }, `socket destroyed: ${reason}`);
      this.#socket.destroy();
    }, milliseconds).unref();
  }

  // ---- flow, alarms, heartbeats

  confirmsHeld(channel: AmqpChannel): void {
    this.#holdingConfirms.push(channel);
    this.outbox.requestFlush();
  }

  beforeFlush(): void {
    if (this.#holdingConfirms.length === 0) return;
    const holding = this.#holdingConfirms;
    this.#holdingConfirms = [];
    for (const channel of holding) channel.flushConfirms();
  }

  onFull(): void {
    for (const channel of this.#frames.channels()) channel.outboxFull = true;
  }

  onStuck(): void {
    this.#input.halt(Halt.stuck);
  }

  onDrain(): void {
    this.#input.resume(Halt.stuck);
    for (const channel of this.#frames.channels()) channel.outboxFull = false;
  }

  #onAlarms(alarms: readonly Alarm[]): void {
    this.#alarms = alarms;
    if (alarms.length === 0 && this.#toldBlocked) {
      this.send('connection.unblocked', {});
      this.#toldBlocked = false;
    }
    this.#holdOrResume();
  }

  #onFlow(held: boolean): void {
    this.#flowHeld = held;
    this.#holdOrResume();
  }

  #holdOrResume(): void {
    this.publishersHeld = this.#alarms.length > 0 || this.#flowHeld;
    if (!this.publishersHeld) this.#input.resume(Halt.publish);
    else if (this.#input.isHalted(Halt.publish)) this.onPublishWhileHeld();
  }

  /** Stops reading from a publisher; says so once per alarm, if the peer wants to know. [RabbitMQ: connection.blocked] */
  onPublishWhileHeld(): void {
    this.#input.halt(Halt.publish);
    if (this.#alarms.length === 0 || this.#toldBlocked || !this.#agreement?.capabilities.has('connection.blocked'))
      return;
    this.#toldBlocked = true;
    this.send('connection.blocked', { reason: `low on ${this.#alarms.join(' & ')}` });
  }

  isQuiet(): boolean {
    const { writtenBytes, end, pendingBytes } = this.outbox;
    const quiet = writtenBytes === this.#saidBytes && end === 0 && pendingBytes === 0;
    this.#saidBytes = writtenBytes;
    return quiet;
  }

  sendHeartbeat(): void {
    this.outbox.write(HEARTBEAT_FRAME);
    // It shall not count as something said when the next one is due.
    this.#saidBytes += HEARTBEAT_FRAME.length;
    if (this.traced) this.trace('>', '0 heartbeat');
  }

  onHeartbeatLost(): void {
    const seconds = this.#agreement?.heartbeatSeconds;
    this.options.log.warn({ peer: this.name, seconds }, 'missed heartbeats from client: closing its socket');
    this.#socket.destroy();
  }
}

/** What is wrong with a frame other than a method or a heartbeat where only these belong. */
function misplaced(type: number, payload: Uint8Array): Reply {
  const known = type >= FRAME_METHOD && (type <= 3 || (type === FRAME_HEARTBEAT && payload.length === 0));
  const whole = type !== 2 || payload.length >= 12;
  if (!known || !whole || (type === FRAME_METHOD && payload.length < 4))
    return frameError(type, payload, 'unknown_frame');
  return unexpectedFrame(type, payload);
}
