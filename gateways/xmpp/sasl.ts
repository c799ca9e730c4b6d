/**
 * How a client of the client port proves who he is [RFC 6120 §6]: SCRAM-SHA-256, SCRAM-SHA-1, both with channel binding
 * (-PLUS) where the stream is TLS, PLAIN and, with a verified certificate, EXTERNAL, for the broker's own users. PLAIN only
 * where nobody can listen: inside TLS or on this machine.
 */
import type { ScramHash } from '../../broker/administration/administration.ts';
import { type Broker, BrokerError, type Principal } from '../../broker/port.ts';
import type { ChannelBindings } from './channel-binding.ts';
import { type Element, element } from './element.ts';
import { decodeName } from './local-part.ts';
import { SASL } from './namespaces.ts';
import { boundOctets, readFirst, ScramError, ScramExchange } from './scram.ts';

/** What of the connection decides about mechanisms and logins. */
export interface SaslPeer {
  readonly loopback: boolean;
  readonly encrypted: boolean;
  readonly certificateName?: string;
  /** Of the TLS connection that the stream is in, if it ends here. */
  readonly channelBindings?: ChannelBindings;
}

/** The defined conditions that Warren uses [RFC 6120 §6.5]. */
type SaslCondition =
  | 'aborted'
  | 'incorrect-encoding'
  | 'invalid-authzid'
  | 'invalid-mechanism'
  | 'malformed-request'
  | 'not-authorized';

/** A login that failed. The message is for the log. */
export class SaslError extends Error {
  override readonly name = 'SaslError';
  readonly condition: SaslCondition;

  constructor(condition: SaslCondition, message: string) {
    super(message);
    this.condition = condition;
  }

  toElement(): Element {
    return element('failure', SASL, {}, element(this.condition, SASL));
  }
}

/** What to answer: a challenge to go on, or success, with the octets that go along as text. */
type Step = { readonly challenge: string } | { readonly principal: Principal; readonly success: string | undefined };

/** Behind the name of a mechanism with channel binding. */
const PLUS = '-PLUS';

const SCRAM: { readonly [mechanism: string]: ScramHash } = { 'SCRAM-SHA-256': 'SHA-256', 'SCRAM-SHA-1': 'SHA-1' };

/** Names, the best first. */
export function mechanismsFor(peer: SaslPeer): readonly string[] {
  return [
    ...(peer.certificateName === undefined ? [] : ['EXTERNAL']),
    ...(peer.channelBindings === undefined ? [] : Object.keys(SCRAM).map((name) => `${name}${PLUS}`)),
    ...Object.keys(SCRAM),
    ...(peer.encrypted || peer.loopback ? ['PLAIN'] : []),
  ];
}

/** One attempt to log in. `next` takes `<auth/>` and then each `<response/>`; it rejects with SaslError. */
export class SaslLogin {
  readonly #broker: Broker;
  readonly #peer: SaslPeer;
  #mechanism = '';
  #scram: { readonly exchange: ScramExchange; readonly username: string } | undefined;

  constructor(broker: Broker, peer: SaslPeer) {
    this.#broker = broker;
    this.#peer = peer;
  }

  async next(request: Element): Promise<Step> {
    if (request.name === 'abort') throw new SaslError('aborted', 'the client gave up');
    const octets = readOctets(request.text);
    if (request.name === 'auth') {
      this.#mechanism = request.attributes.mechanism ?? '';
      if (!mechanismsFor(this.#peer).includes(this.#mechanism)) {
        throw new SaslError('invalid-mechanism', `mechanism "${this.#mechanism}" is not offered`);
      }
      // An initial response was left out: asked for with an empty challenge [RFC 6120 §6.4.2].
      if (octets === undefined) return { challenge: '' };
    } else if (request.name !== 'response' || this.#mechanism === '') {
      throw new SaslError('malformed-request', `<${request.name}/> has no place here`);
    }
    const text = octets?.toString() ?? '';
    try {
      return await this.#respond(text);
    } catch (error) {
      if (error instanceof ScramError) throw new SaslError('not-authorized', error.message);
      if (error instanceof BrokerError) throw new SaslError('not-authorized', error.message);
      throw error;
    }
  }

  async #respond(text: string): Promise<Step> {
    const { loopback, certificateName } = this.#peer;
    const hash = SCRAM[this.#mechanism.replace(PLUS, '')];
    if (hash !== undefined) return this.#scramStep(hash, text);
    if (this.#mechanism === 'EXTERNAL') {
      const username = certificateName ?? '';
      checkAuthorise(text, username);
      const principal = await this.#broker.authenticate({ username, loopback, provedBy: 'certificate' });
      return { principal, success: undefined };
    }
    const [authorise = '', name, password, ...more] = text.split('\0');
    if (name === undefined || password === undefined || more.length > 0) {
      throw new SaslError('malformed-request', 'PLAIN takes authzid NUL name NUL password');
    }
    const username = nameOf(name);
    checkAuthorise(authorise, username);
    return { principal: await this.#broker.authenticate({ username, password, loopback }), success: undefined };
  }

  async #scramStep(hash: ScramHash, text: string): Promise<Step> {
    if (this.#scram === undefined) {
      const first = readFirst(text);
      const username = nameOf(first.username);
      checkAuthorise(first.authorise, username);
      const bound = boundOctets(first, this.#mechanism.endsWith(PLUS), this.#peer.channelBindings?.octets);
      const exchange = new ScramExchange(hash, await this.#broker.scramKeys(username, hash), first, bound);
      this.#scram = { exchange, username };
      return { challenge: exchange.challenge };
    }
    const { exchange, username } = this.#scram;
    const success = exchange.finish(text);
    const principal = await this.#broker.authenticate({
      username,
      loopback: this.#peer.loopback,
      provedBy: 'scram',
    });
    return { principal, success };
  }
}

/** The octets in an element; undefined when it is empty, none for `=`. Throws SaslError. */
function readOctets(text: string): Buffer | undefined {
  const trimmed = text.trim();
  if (trimmed === '') return undefined;
  if (trimmed === '=') return Buffer.alloc(0);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(trimmed) || trimmed.length % 4 !== 0) {
    throw new SaslError('incorrect-encoding', 'not base64');
  }
  return Buffer.from(trimmed, 'base64');
}

/** Clients that know an address only give its local part, escapes and all, for the name. */
function nameOf(given: string): string {
  return given.includes('\\') ? decodeName(given).text : given;
}

/** Nobody may act as somebody else. */
function checkAuthorise(authorise: string, username: string): void {
  const [name = ''] = authorise.split('@');
  if (authorise === '' || name === username || nameOf(name) === username) return;
  throw new SaslError('invalid-authzid', `${username} may not act as ${authorise}`);
}
