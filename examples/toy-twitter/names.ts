/**
 * The names of people, and what they are called on the broker and on XMPP. One person has one name on every door:
 *
 * ```
 * anna                 who is at home here: the broker's user anna, on XMPP anna@HOME (HOME: localhost unless told otherwise)
 * romeo@montague.net   everybody else: the name is the bare XMPP address
 *
 * twitter.user.anna    exchange, topic: what anna sends; the routing key says what it is
 * twitter.inbox.anna   queue, durable: what anna has not read yet
 * twitter.everyone     exchange, topic: what anybody sends
 * twitter.graph        queue: who joined, left, followed, unfollowed
 * twitter.archive      queue: the latest posts of all
 * ```
 */

/** Characters of a name of somebody who is at home here. */
export const NAME_CHARS_MAX = 30;
/** Octets of any name, so that what is made of it is no longer than AMQP allows (255). */
export const NAME_BYTES_MAX = 200;

/** Something was asked for that cannot be; the message is a polite sentence for the person who asked. */
export class TwitterError extends Error {
  override readonly name = 'TwitterError';
  readonly reason: TwitterErrorReason;

  constructor(reason: TwitterErrorReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

export type TwitterErrorReason =
  | 'bad-name'
  | 'empty'
  | 'too-long'
  | 'too-many'
  | 'unknown-person'
  | 'not-joined'
  | 'not-following'
  | 'taken'
  | 'busy';

/** Letters and digits of any script in their plainest form, inside also `_`, `-` and `.`. */
const HOME_NAME = /^[\p{Ll}\p{Lo}\p{Nd}](?:[\p{Ll}\p{Lo}\p{Nd}\p{M}_.-]*[\p{Ll}\p{Lo}\p{Nd}\p{M}])?$/u;
/** Alphabets whose letters are taken for one another: the letters of a name are of one of them. */
const LOOK_ALIKES = [/\p{Script=Latin}/u, /\p{Script=Greek}/u, /\p{Script=Cyrillic}/u, /\p{Script=Armenian}/u];
/** What nobody sees, and marks in heaps: with them a name could look like another, or like nothing at all. */
const UNSEEN = /\p{Default_Ignorable_Code_Point}|\p{M}{4}/u;
const LOCAL_PART = /^[^\p{C}\p{Z}"&'/:<>@]+$/u;
const DOMAIN = /^(?:\[[0-9a-f:.]+\]|[\p{L}\p{M}\p{N}_](?:[\p{L}\p{M}\p{N}_.-]*[\p{L}\p{M}\p{N}_])?)$/u;

/** Upper and lower case are one, and so are the ways to write the same letter. */
function fold(text: string): string {
  return text.normalize('NFKC').toLowerCase().normalize('NFKC');
}

function isHomeName(text: string): boolean {
  const isMixed = LOOK_ALIKES.filter((alphabet) => alphabet.test(text)).length > 1;
  return HOME_NAME.test(text) && !isMixed && !text.includes('..') && [...text].length <= NAME_CHARS_MAX;
}

/** How names of this place and XMPP addresses belong together. */
export class Names {
  /** The XMPP domain of those who are at home here. */
  readonly home: string;

  constructor(home = 'localhost') {
    this.home = fold(home);
  }

  /**
   * The name that somebody means who writes `anna`, `@anna`, `Anna@localhost`, `romeo@montague.net/garden` or
   * `xmpp:romeo@montague.net`. Throws TwitterError, bad-name.
   */
  read(text: string): string {
    const plain = fold(
      text
        .trim()
        .replace(/^xmpp:/i, '')
        .replace(/^@/, ''),
    );
    const name = plain.includes('@') ? this.#fromAddress(plain) : plain;
    if (name === '') throw new TwitterError('bad-name', 'Whom do you mean? There is no name here.');
    const isFine = (name.includes('@') || isHomeName(name)) && !UNSEEN.test(name);
    if (!isFine || Buffer.byteLength(keyPart(name)) > NAME_BYTES_MAX) throw new TwitterError('bad-name', badName(text));
    return name;
  }

  /** A name that somebody may sign in with here. Throws TwitterError, bad-name. */
  readHome(text: string): string {
    const name = this.read(text);
    if (name.includes('@')) throw new TwitterError('bad-name', badName(text));
    return name;
  }

  /** The bare XMPP address of somebody. */
  address(name: string): string {
    return name.includes('@') ? name : `${name}@${this.home}`;
  }

  #fromAddress(folded: string): string {
    const [, local = '', domain = ''] = /^([^@/]*)@([^/]*)/.exec(folded) ?? [];
    if (!LOCAL_PART.test(local) || !DOMAIN.test(domain)) {
      const shown = shorten(folded);
      throw new TwitterError('bad-name', `“${shown}” is no XMPP address. They look like user@host.example.`);
    }
    return domain === this.home && isHomeName(local) ? local : `${local}@${domain}`;
  }
}

function badName(text: string): string {
  return (
    `“${shorten(text)}” cannot be a name here. Names are 1 to ${NAME_CHARS_MAX} letters of one alphabet and digits, ` +
    'inside also with _ - and single dots, for instance anna or max.w.'
  );
}

/** So that an answer to something very long is not very long itself. */
export function shorten(text: string, charsMax = 40): string {
  const characters = [...text.replace(/[\p{C}\s]+/gu, ' ').trim()];
  return characters.length <= charsMax ? characters.join('') : `${characters.slice(0, charsMax).join('')}…`;
}

// ---- on the broker

/** Everything that anybody sends passes here. */
export const EVERYONE = 'twitter.everyone';
export const GRAPH_QUEUE = 'twitter.graph';
export const ARCHIVE_QUEUE = 'twitter.archive';
/** The routing key of posts. */
export const POST_KEY = 'say';

const USER_PREFIX = 'twitter.user.';

export function userExchange(name: string): string {
  return USER_PREFIX + name;
}

export function inboxQueue(name: string): string {
  return `twitter.inbox.${name}`;
}

/** Whose exchange that is; undefined for any other. */
export function ownerOf(exchange: string): string | undefined {
  return exchange.startsWith(USER_PREFIX) ? exchange.slice(USER_PREFIX.length) : undefined;
}

/** A name as it stands in keys of a topic exchange, where `*` and `#` mean something. */
export function keyPart(name: string): string {
  return name.replace(/[%*#]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
