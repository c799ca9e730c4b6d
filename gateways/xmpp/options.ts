/** What can be decided about the XMPP door. What is an option of the process too has its default there. */
import { type Log, SILENT_LOG } from '../log.ts';
import { OPTIONS } from '../options.ts';
import type { TlsIdentity } from '../tls.ts';
import type { ComponentOptions } from './component-link.ts';

/** A domain of exchanges, and the virtual host that it shows. */
export interface ExchangeDomainOption {
  readonly domain: string;
  readonly vhost: string;
}

/** Defaults are those of the options in `../options.ts`, where there is one that means the same. */
export interface XmppOptions {
  readonly version?: string;
  /** Domain of the broker's users on the client port. */
  readonly userDomain?: string;
  /** Virtual host in which users have their inboxes. */
  readonly userVhost?: string;
  /** Domains of exchanges for the users of the client port. */
  readonly domains?: readonly ExchangeDomainOption[];
  /** Domains of exchanges in other servers, of which Warren is a component. */
  readonly components?: readonly ComponentOptions[];
  /** Name of the broker's user with whose rights the users of other servers act, if they are none themselves. */
  readonly componentUser?: string;
  /** For STARTTLS. */
  readonly tls?: TlsIdentity;
  /** Who may log in without TLS. */
  readonly withoutTls?: 'loopback' | 'everyone' | 'nobody';
  /** Characters of a stanza, in and out. */
  readonly stanzaBytesMax?: number;
  /** The same before login; default 64 KiB. */
  readonly loginStanzaBytesMax?: number;
  /** From the accepted connection to resource binding. */
  readonly handshakeTimeoutMs?: number;
  /** How long a lost stream may be resumed. */
  readonly resumeMs?: number;
  /** A silent peer is asked for a sign of life after this time, and given up after as much again; default 2 min. */
  readonly silenceMs?: number;
  /** What has been on its way for less is not said to be delayed; default 5 s. */
  readonly delayMsMin?: number;
  /** Before a refused login is answered, unless the peer is on this machine; default 3 s. */
  readonly loginRefusalDelayMs?: number;
  readonly log?: Log;
}

export type ResolvedOptions = Required<Omit<XmppOptions, 'tls' | 'componentUser'>> &
  Pick<XmppOptions, 'tls' | 'componentUser'>;

const LOGIN_STANZA_BYTES_MAX = 64 * 1024;
/** Prosody's. */
const COMPONENT_PORT = 5347;
const SILENCE_MS = 120_000;
const LOGIN_REFUSAL_DELAY_MS = 3000;
const DELAY_MS_MIN = 5000;

/** `options` with the defaults filled in. */
export function resolveOptions(options: XmppOptions): ResolvedOptions {
  const userVhost = options.userVhost ?? OPTIONS.defaultVhost.default;
  return {
    version: '0.0.0',
    userDomain: OPTIONS.xmppUserDomain.default,
    userVhost,
    domains: readDomains(OPTIONS.xmppDomains.default, userVhost),
    components: [],
    withoutTls: OPTIONS.xmppWithoutTls.default,
    stanzaBytesMax: OPTIONS.xmppStanzaBytesMax.default,
    loginStanzaBytesMax: LOGIN_STANZA_BYTES_MAX,
    handshakeTimeoutMs: OPTIONS.handshakeTimeoutSeconds.default * 1000,
    resumeMs: OPTIONS.xmppResumeSeconds.default * 1000,
    silenceMs: SILENCE_MS,
    delayMsMin: DELAY_MS_MIN,
    loginRefusalDelayMs: LOGIN_REFUSAL_DELAY_MS,
    log: SILENT_LOG,
    ...options,
  };
}

/** Reads `127.0.0.1:5347`, `[::1]:5347`, or a host alone. */
export function readServer(text: string): { readonly host: string; readonly port: number } {
  const [, host = text, port] = /^(.*?)(?::(\d+))?$/.exec(text) ?? [];
  return { host: host.replace(/^\[|\]$/g, ''), port: port === undefined ? COMPONENT_PORT : Number(port) };
}

/** Reads `broker.localhost`, which shows `vhost`, or `staging.localhost=/staging`. */
export function readDomains(texts: readonly string[], vhost: string): ExchangeDomainOption[] {
  return texts.map((text) => {
    const at = text.indexOf('=');
    return at < 0 ? { domain: text, vhost } : { domain: text.slice(0, at), vhost: text.slice(at + 1) };
  });
}
