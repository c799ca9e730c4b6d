/** What can be decided about the reverse-HTTP door. What is an option of the process too has its default there. */
import { type Log, SILENT_LOG } from '../log.ts';
import { OPTIONS } from '../options.ts';
import { BodyBudget } from './body.ts';

/** Defaults are those of the options in `../options.ts`, where there is one that means the same. */
export interface ReverseHttpOptions {
  /** What URLs that are handed out begin with, as `https://broker.example`; absent: as each client has asked. */
  readonly baseUrl?: string;
  /** With `example.org`, requests for the host `foo.example.org` are for the claim `foo`; the path form works always. */
  readonly domain?: string;
  /** Whose requests for public URLs are taken: everyone's, or those of users with the right to write on the exchange. */
  readonly visitors?: 'everyone' | 'users';
  /** The user as whom those act who come without credentials; absent: they are asked for some. */
  readonly anonymousUser?: string;
  /** Origins of web pages that may use the door: see `isOriginAllowed`. */
  readonly origins?: readonly string[];
  /** Path segment below a public URL that tells free and busy slots, or `off`. */
  readonly slotsPath?: string;
  /** Claims at a time. */
  readonly claimsMax?: number;
  /** Claims of one user at a time. */
  readonly userClaimsMax?: number;
  /** Shortest, default and longest time that a claim lives without a server. */
  readonly leaseSecondsMin?: number;
  readonly leaseSecondsDefault?: number;
  readonly leaseSecondsMax?: number;
  /** How long a poll waits for a request. */
  readonly pollSeconds?: number;
  /** From a request to the beginning of its answer. */
  readonly replyTimeoutMs?: number;
  /** How long an answer that has begun, or a tunnel, may stand still. */
  readonly idleMs?: number;
  /** Connections of visitors at a time that have changed their protocol, or ask to. */
  readonly tunnelsMax?: number;
  /** How long a request waits for some server to appear when there is none. */
  readonly unavailableAfterMs?: number;
  /** How long a body may stand still while it is read. */
  readonly bodyIdleMs?: number;
  /** Octets of a body that have to come in a second, on average and after the first `bodyIdleMs`. */
  readonly bodyRateMin?: number;
  /** Largest body of a request that becomes a message, of a reply, and of a published message. */
  readonly bodyBytesMax?: number;
  /** Octets of all bodies that are being read at a time, those that stream excepted. */
  readonly bodiesBytesMax?: number;
  /** Bodies from this size on stream where a reversed connection is free. */
  readonly streamBytesMin?: number;
  /** How long a body may be in coming before it is streamed although it is small so far. */
  readonly streamAfterMs?: number;
  /** Requests at a time on one HTTP/2 connection, unless its server wants fewer. */
  readonly streamsMax?: number;
  /** Requests in one `application/http` pipeline. */
  readonly pipelineMax?: number;
  /** Hosts to which the relay may connect: `example.org`, `example.org:8080`, `*.example.org`; none: no relay. */
  readonly relayAllow?: readonly string[];
  /** Gateways above for which this one is a server; see `parseUpstream`. */
  readonly upstreams?: readonly string[];
  /** Deliveries on an event stream that wait for their acknowledgement. */
  readonly streamWindow?: number;
  /** Their size together; the one that crosses it is the last. */
  readonly streamWindowBytes?: number;
  /** How long what was delivered over HTTP waits for its acknowledgement, and a stream for its reader's return. */
  readonly ackTimeoutMs?: number;
  /** How long a bearer token is good. */
  readonly tokenSeconds?: number;
  /** Before a refused login is answered, unless the peer is on this machine. */
  readonly loginRefusalDelayMs?: number;
  /** How long a reversed HTTP/2 connection may give no sign of life after it was asked for one. */
  readonly pongTimeoutMs?: number;
  /** How long a closing connection may take. */
  readonly closeTimeoutMs?: number;
  readonly log?: Log;
}

export type ResolvedOptions = Required<Omit<ReverseHttpOptions, 'baseUrl' | 'domain' | 'anonymousUser'>> &
  Pick<ReverseHttpOptions, 'baseUrl' | 'domain' | 'anonymousUser'> & { readonly budget: BodyBudget };

/** `options` with the defaults filled in. */
export function resolveOptions(options: ReverseHttpOptions): ResolvedOptions {
  const bodiesBytesMax = options.bodiesBytesMax ?? 256 * 1024 * 1024;
  return {
    bodiesBytesMax,
    budget: new BodyBudget(bodiesBytesMax),
    visitors: OPTIONS.reverseHttpVisitors.default,
    origins: OPTIONS.websocketOrigins.default,
    slotsPath: OPTIONS.reverseHttpSlotsPath.default,
    claimsMax: OPTIONS.reverseHttpClaimsMax.default,
    userClaimsMax: OPTIONS.reverseHttpUserClaimsMax.default,
    leaseSecondsMin: 1,
    leaseSecondsDefault: 60,
    leaseSecondsMax: 24 * 3600,
    pollSeconds: OPTIONS.reverseHttpPollSeconds.default,
    replyTimeoutMs: OPTIONS.reverseHttpReplySeconds.default * 1000,
    idleMs: OPTIONS.reverseHttpIdleSeconds.default * 1000,
    tunnelsMax: OPTIONS.reverseHttpTunnelsMax.default,
    unavailableAfterMs: 1000,
    bodyIdleMs: 30_000,
    bodyRateMin: 240,
    bodyBytesMax: OPTIONS.reverseHttpBodyBytesMax.default,
    streamBytesMin: 64 * 1024,
    streamAfterMs: 100,
    streamsMax: 100,
    pipelineMax: 16,
    relayAllow: OPTIONS.reverseHttpRelayAllow.default,
    upstreams: [],
    streamWindow: 1000,
    streamWindowBytes: 16 * 1024 * 1024,
    ackTimeoutMs: 60_000,
    tokenSeconds: 3600,
    loginRefusalDelayMs: 3000,
    pongTimeoutMs: 20_000,
    closeTimeoutMs: 5000,
    log: SILENT_LOG,
    ...options,
  };
}
