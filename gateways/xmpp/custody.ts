/**
 * Who has what was sent through another server. XEP-0114 has no acknowledgements, and that the server has taken something
 * does not mean that its user will get it: he may be on a server behind it, or on a line that is dead. So his client is
 * asked itself: a ping to the very address, right behind what was sent. Servers and clients handle in order what goes from
 * one address to another; when the answer is there, whatever it says, all before the ping has come or has come back.
 *
 * ```
 * > message id=1   > message id=2   > iq ping        < iq result, or error        1 and 2 are his
 *                                                    < message error id=2         2 returns to its queue
 *                                                    < presence unavailable       1 and 2 return
 * ```
 *
 * Every client must answer a question [RFC 6120 §8.2.3]. One that never has, in some time, is taken at his server's word:
 * a ping from our domain to itself, which the server has to carry back.
 */
import { randomBytes } from 'node:crypto';
import type { CancelTimer, Clock } from '../../broker/clock.ts';
import { type Element, element } from './element.ts';
import { bareText, formatJid, tryParseJid } from './jid.ts';
import { CLIENT, PING, STANZA_CONDITIONS } from './namespaces.ts';
import type { Settlement } from './stanza-router.ts';

/** How long a client may take to answer before it is asked again or, if it never has answered, no more. */
export const ANSWER_MS = 30_000;
/** Receivers of whom it is remembered whether they answer. */
export const RECEIVERS_MAX = 10_000;

/** Of an answer that says that the question never arrived: so what came before may not have, either. */
const UNREACHED = ['recipient-unavailable', 'remote-server-not-found', 'remote-server-timeout', 'gone'];

export interface CustodyOptions {
  /** Ours. */
  readonly domain: string;
  readonly clock: Clock;
  say(stanza: Element): void;
  /** That address cannot be reached; what was sent there has been returned in this turn. */
  onUnreachable(address: string): void;
}

interface Outstanding {
  readonly id: string;
  /** As whom it was sent. */
  readonly from: string;
  readonly settlement: Settlement;
}

interface Receiver {
  readonly address: string;
  /** Sent, and not known to have arrived, oldest first. */
  readonly outstanding: Outstanding[];
  /** The question on its way, and how many of these were sent before it. */
  question: { readonly id: string; count: number; readonly cancel: CancelTimer } | undefined;
  /** What is known about his answers. */
  answers: 'unknown' | 'yes' | 'never';
  wanted: boolean;
}

export class Custody {
  readonly #options: CustodyOptions;
  readonly #receivers = new Map<string, Receiver>();
  #ids = 0;

  constructor(options: CustodyOptions) {
    this.#options = options;
  }

  /** Says a stanza, and settles it when it is known what has become of it. */
  send(stanza: Element, settlement: Settlement): void {
    // By its id a stanza that comes back is known.
    this.#ids += 1;
    const { id = `w${this.#ids}`, from = '', to } = stanza.attributes;
    this.#options.say(stanza.with({ id }));
    const receiver = this.#receiver(normal(to));
    receiver.outstanding.push({ id, from, settlement });
    this.#wantAnswer(receiver);
  }

  #receiver(address: string): Receiver {
    const known = this.#receivers.get(address);
    if (known !== undefined) return known;
    const receiver: Receiver = { address, outstanding: [], question: undefined, answers: 'unknown', wanted: false };
    this.#receivers.set(address, receiver);
    if (this.#receivers.size > RECEIVERS_MAX) {
      for (const one of this.#receivers.values()) {
        if (one.outstanding.length > 0) continue;
        this.#receivers.delete(one.address);
        break;
      }
    }
    return receiver;
  }

  /** One question for all that is sent in this turn. */
  #wantAnswer(receiver: Receiver): void {
    if (receiver.wanted || receiver.question !== undefined) return;
    receiver.wanted = true;
    setImmediate(() => {
      receiver.wanted = false;
      if (receiver.question === undefined) this.#ask(receiver);
    });
  }

  #ask(receiver: Receiver): void {
    const last = receiver.outstanding.at(-1);
    if (last === undefined) return;
    const { domain, clock, say } = this.#options;
    // Not to be guessed: whoever could answer for somebody else would have messages forgotten that nobody has.
    const id = `echo-${randomBytes(9).toString('base64url')}`;
    const cancel = clock.schedule(ANSWER_MS, () => this.#onSilence(receiver));
    receiver.question = { id, count: receiver.outstanding.length, cancel };
    const asksServer = receiver.answers === 'never';
    const [from, to] = asksServer ? [domain, domain] : [last.from, receiver.address];
    say(element('iq', CLIENT, { type: 'get', id, from, to }, element('ping', PING)));
  }

  #onSilence(receiver: Receiver): void {
    receiver.question = undefined;
    if (receiver.answers === 'unknown') receiver.answers = 'never';
    this.#ask(receiver);
  }

  /** True when this iq is about a question of ours: an answer to it, or the question itself, carried back. */
  onIq(iq: Element): boolean {
    const { id, from, type } = iq.attributes;
    const address = normal(from);
    if (address === this.#options.domain) return this.#onEcho(id);
    if (type !== 'result' && type !== 'error') return false;
    const receiver = this.#receivers.get(address);
    if (receiver?.question === undefined || receiver.question.id !== id || receiver.answers === 'never') return false;
    const error = iq.child('error');
    if (error !== undefined && UNREACHED.some((name) => error.child(name, STANZA_CONDITIONS) !== undefined)) {
      this.#forget(receiver);
      this.#options.onUnreachable(receiver.address);
      return true;
    }
    receiver.answers = 'yes';
    this.#onAnswer(receiver);
    return true;
  }

  /** On its way to ourselves it is a question still; some servers refuse it instead. That it is here says all. */
  #onEcho(id: string | undefined): boolean {
    const asked = [...this.#receivers.values()].find(
      ({ question, answers }) => answers === 'never' && question !== undefined && question.id === id,
    );
    if (asked !== undefined) this.#onAnswer(asked);
    return asked !== undefined;
  }

  #onAnswer(receiver: Receiver): void {
    const { question, outstanding } = receiver;
    question?.cancel();
    receiver.question = undefined;
    for (const { settlement } of outstanding.splice(0, question?.count ?? 0)) settlement.delivered();
    if (outstanding.length > 0) this.#wantAnswer(receiver);
  }

  /** A message has come back. True when it had not been settled yet; it is returned. */
  onBounce(id: string | undefined, from: string | undefined): boolean {
    const receiver = this.#receivers.get(normal(from));
    const index = receiver?.outstanding.findIndex((one) => one.id === id) ?? -1;
    const [bounced] = index < 0 ? [] : (receiver?.outstanding.splice(index, 1) ?? []);
    if (receiver === undefined || bounced === undefined) return false;
    if (receiver.question !== undefined && index < receiver.question.count) receiver.question.count -= 1;
    bounced.settlement.returned();
    return true;
  }

  /** Somebody is not there any more, or cannot be reached: what he has not answered for is returned. */
  onGone(from: string | undefined): void {
    const address = normal(from);
    const jid = tryParseJid(address);
    if (jid === undefined) return;
    if (jid.resource !== '') {
      const receiver = this.#receivers.get(address);
      if (receiver !== undefined) this.#forget(receiver);
      return;
    }
    for (const receiver of [...this.#receivers.values()]) {
      const one = tryParseJid(receiver.address);
      if (one !== undefined && bareText(one) === address) this.#forget(receiver);
    }
  }

  #forget(receiver: Receiver): void {
    receiver.question?.cancel();
    receiver.question = undefined;
    this.#receivers.delete(receiver.address);
    for (const { settlement } of receiver.outstanding.splice(0)) settlement.returned();
  }

  /** The link is gone: all that is not known to have arrived is returned. */
  giveUp(): void {
    for (const receiver of [...this.#receivers.values()]) this.#forget(receiver);
  }
}

/** As addresses are compared. */
function normal(address: string | undefined): string {
  const jid = tryParseJid(address);
  return jid === undefined ? (address ?? '') : formatJid(jid);
}
