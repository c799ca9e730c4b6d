/**
 * Who may come in as whom. A person who is at home here is a user of the broker, with the one right that this example needs:
 * to send through the exchange of that name and to read the inbox of that name. So a browser may talk to the broker itself,
 * over STOMP, and nobody can read or speak for anybody else: the broker says no.
 *
 * The same name and passcode are good for every door: `anna@localhost` on XMPP, AMQP, STOMP.
 */
import { randomBytes } from 'node:crypto';
import { type Broker, BrokerError } from 'warren';
import { inboxQueue, type Names, TwitterError, userExchange } from './names.ts';
import type { Joined, Twitter } from './twitter.ts';

/** Users of the broker, unless told otherwise; one more is told to come back later. */
export const ACCOUNTS_MAX = 10_000;
/** Connections of one person: windows, phones, chat clients. */
export const CONNECTIONS_EACH = 20;

const PASSCODE_BYTES = 10;
const PASSCODE_CHARS_MAX = 100;
/** Without the ones that are taken for one another. */
const ALPHABET = 'abcdefghjkmnpqrstvwxyz0123456789';

/** Somebody who has signed in. */
export interface Account {
  readonly name: string;
  /** Password of the broker's user. */
  readonly passcode: string;
  /** On XMPP. */
  readonly address: string;
  /** `back`: it was given up, over whatever door, and is there again. */
  readonly joined: Joined;
}

export interface AccountsOptions {
  readonly broker: Broker;
  readonly vhost: string;
  readonly twitter: Twitter;
  readonly names: Names;
  readonly accountsMax?: number;
}

export class Accounts {
  readonly #options: AccountsOptions;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /**
   * Signs somebody in: under a name that is free, who then has it; or under his own, if the passcode is right. `loopback`:
   * he comes from this machine. Rejects with TwitterError: bad-name, taken, too-many.
   */
  signIn(text: string, passcode: string | undefined, loopback: boolean): Promise<Account> {
    // One after the other: of two who want the same free name, one gets it.
    const account = this.#turn.then(() => this.#signIn(text, passcode, loopback));
    this.#turn = account.catch(() => {});
    return account;
  }

  async #signIn(text: string, passcode: string | undefined, loopback: boolean): Promise<Account> {
    const { broker, names, twitter, accountsMax = ACCOUNTS_MAX } = this.#options;
    const name = names.readHome(text);
    const users = await broker.administration.users();
    const user = users.find((one) => one.name === name);
    const address = names.address(name);
    if (user === undefined) {
      if (users.length >= accountsMax)
        throw new TwitterError('too-many', 'This place is full. Please come back later.');
      // Who has been here before this broker was started anew brings his passcode along.
      const brought = passcode !== undefined && /^[!-~]{16,}$/.test(passcode) && passcode.length <= PASSCODE_CHARS_MAX;
      const given = brought ? passcode : newPasscode();
      await this.#make(name, given);
      return { name, passcode: given, address, joined: await twitter.join(name) };
    }
    if (passcode === undefined || !(await this.#isRight(name, passcode, loopback))) {
      const more = passcode === undefined ? 'If it is you, give its passcode, too.' : 'And that is not its passcode.';
      throw new TwitterError('taken', `Somebody is ${name} already. ${more}`);
    }
    // It may have been given up over another door.
    return { name, passcode, address, joined: await twitter.join(name) };
  }

  async #isRight(username: string, password: string, loopback: boolean): Promise<boolean> {
    try {
      await this.#options.broker.authenticate({ username, password, loopback });
      return true;
    } catch (error) {
      if (error instanceof BrokerError && error.kind === 'access-refused') return false;
      throw error;
    }
  }

  async #make(name: string, password: string): Promise<void> {
    const { vhost, broker, names } = this.#options;
    const { administration } = broker;
    await administration.putUser({ name, password, limits: { maxConnections: CONNECTIONS_EACH } });
    await administration.setPermission({ vhost, user: name, ...rightsOf(name, names.address(name)) });
  }
}

/** Regular expressions on names of exchanges and queues. `address`: Warren's XMPP door keeps chats in a queue so named. */
export function rightsOf(name: string, address: string): { configure: string; write: string; read: string } {
  const [exchange, inbox, chats] = [userExchange(name), inboxQueue(name), address].map(literally);
  const own = `stomp-subscription-.*|${chats}`;
  return {
    configure: `^(${own})$`,
    write: `^(${exchange}|${inbox}|${own})$`,
    // Whoever may be followed may be read; binding an inbox to an exchange is reading from it.
    read: `^(twitter\\.user\\..*|twitter\\.everyone|${inbox}|${own})$`,
  };
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Four groups of four, to be read from one screen and typed on another. */
function newPasscode(): string {
  let bits = BigInt(`0x${randomBytes(PASSCODE_BYTES).toString('hex')}`);
  let characters = '';
  for (let index = 0; index < (PASSCODE_BYTES * 8) / 5; index += 1) {
    characters += ALPHABET[Number(bits & 31n)];
    bits >>= 5n;
  }
  return characters.match(/.{4}/g)?.join('-') ?? characters;
}
