/**
 * The users of one broker: who they are, how they prove it, what tags and limits they have. What they may do is in
 * permissions.ts.
 */
import type {
  DigestAlgorithm,
  ScramHash,
  ScramKeys,
  UserLimits,
  UserSpec,
  UserView,
} from '../administration/administration.ts';
import { DefinitionLog } from '../definition-log.ts';
import { Directory } from '../directory.ts';
import { BrokerError, type Credentials, type Principal } from '../port.ts';
import { makeDigestKeys, unmatchableDigestKey } from './digest-keys.ts';
import { checkLimits } from './limits.ts';
import {
  DEFAULT_HASHING_ALGORITHM,
  hashPassword,
  isHashingAlgorithm,
  isPasswordHash,
  type PasswordHash,
  verifyPassword,
} from './password.ts';
import { makeScramKeys, unmatchableScramKeys } from './scram-keys.ts';

/** RabbitMQ's bound. */
export const USER_TAGS_MAX = 32;

export interface UsersOptions {
  /** Names of users who may come from this machine only; default `guest`, whose password everybody knows. */
  readonly loopbackUsers?: Iterable<string>;
  /** Default: one that keeps nothing. */
  readonly log?: DefinitionLog;
}

/** The users of one broker. */
export class Users {
  readonly #users: Directory<'user', UserView>;
  readonly #loopbackUsers: ReadonlySet<string>;
  /** For the keys of those who have none. */
  readonly #secret = crypto.getRandomValues(new Uint8Array(32));

  constructor(options: UsersOptions = {}) {
    this.#users = new Directory(options.log ?? new DefinitionLog(), 'user', (user) => user);
    this.#loopbackUsers = new Set(options.loopbackUsers ?? ['guest']);
  }

  /** Creates or replaces; resolves when the user can log in. Throws precondition-failed; see `prepareUser`. */
  async put(user: UserSpec): Promise<void> {
    this.store(await prepareUser(user));
  }

  /** As `put`, for a user made by `prepareUser` or listed by another broker. */
  store(user: UserView): void {
    this.#users.set(user);
  }

  /** Throws not-found. */
  delete(name: string): void {
    this.get(name);
    this.#users.delete(name);
  }

  /** Throws not-found and precondition-failed. */
  setLimits(name: string, limits: UserLimits): void {
    checkLimits(limits, 'user');
    this.store({ ...this.get(name), limits });
  }

  has(name: string): boolean {
    return this.#users.has(name);
  }

  /** Throws not-found. */
  get(name: string): UserView {
    const user = this.#users.get(name);
    if (user === undefined) throw new BrokerError('not-found', `no user '${name}'`);
    return user;
  }

  /** In the order of creation. */
  list(): readonly UserView[] {
    return this.#users.list();
  }

  /** Those of a user who is gone, and of the program itself, are none. */
  limits(name: string): UserLimits {
    return this.#users.get(name)?.limits ?? {};
  }

  /**
   * Throws access-refused. Of an unknown user, a wrong password and a user without password it tells nothing apart,
   * neither by its text nor by its time. That a user may come from this machine only is told, with the cure, to those
   * who know his password.
   */
  async authenticate(credentials: Credentials): Promise<Principal> {
    const { username, loopback } = credentials;
    const user = this.#users.get(username);
    // An empty password is none; the hash of one may exist, but nobody gets in with it. [RabbitMQ: access control]
    const proved =
      'password' in credentials
        ? (await verifyPassword(credentials.password, user)) && credentials.password !== ''
        : ['certificate', 'renewal', 'scram', 'digest', 'server'].includes(credentials.provedBy);
    if (user === undefined || !proved) {
      throw new BrokerError('access-refused', `user '${username}': invalid credentials`);
    }
    if (!loopback && this.#loopbackUsers.has(username)) {
      throw new BrokerError(
        'access-refused',
        `User '${username}' can only connect via localhost: from elsewhere, log in as a user of your own ` +
          '(RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS make one), or take this one off the loopback users',
      );
    }
    if ('password' in credentials && user.digest === undefined) await this.#addKeys(user, credentials.password);
    return Object.freeze({ username, tags: user.tags });
  }

  /** See `Broker.scramKeys`. */
  async scramKeys(name: string, hash: ScramHash): Promise<ScramKeys> {
    return this.#users.get(name)?.scram?.[hash] ?? unmatchableScramKeys(name, hash, this.#secret);
  }

  /** See `Broker.digestKey`. */
  digestKey(name: string, algorithm: DigestAlgorithm): string {
    return this.#users.get(name)?.digest?.[algorithm] ?? unmatchableDigestKey(algorithm);
  }

  /** The password is known to be right: this is the moment to make keys of it. */
  async #addKeys(user: UserView, password: string): Promise<void> {
    const keys = await makeKeys(user.name, password);
    if (this.#users.get(user.name) === user) this.store(Object.freeze({ ...user, ...keys }));
  }
}

/**
 * The user that `user` asks for, his password hashed. Throws precondition-failed for a name, hash, algorithm, tag or
 * limit that cannot be.
 */
export async function prepareUser(user: UserSpec): Promise<UserView> {
  const { name, tags = [], limits = {} } = user;
  if (name === '') throw new BrokerError('precondition-failed', 'the name of a user must not be empty');
  if (tags.length > USER_TAGS_MAX) {
    throw new BrokerError('precondition-failed', `user '${name}' has more than ${USER_TAGS_MAX} tags`);
  }
  checkLimits(limits, 'user');
  const keys = user.password === undefined ? {} : await makeKeys(name, user.password);
  const hash = await prepareHash(user);
  return Object.freeze({ name, ...hash, ...keys, tags: Object.freeze([...tags]), limits });
}

/** The keys for the logins that RabbitMQ's hash cannot check. */
async function makeKeys(name: string, password: string): Promise<Pick<UserView, 'scram' | 'digest'>> {
  const [scram, digest] = await Promise.all([makeScramKeys(password), makeDigestKeys(name, password)]);
  return { ...(scram && { scram }), ...(digest && { digest }) };
}

async function prepareHash(user: UserSpec): Promise<PasswordHash> {
  const { name, password, passwordHash = '', hashingAlgorithm = DEFAULT_HASHING_ALGORITHM } = user;
  if (!isHashingAlgorithm(hashingAlgorithm)) {
    throw new BrokerError('precondition-failed', `user '${name}': unknown hashing algorithm '${hashingAlgorithm}'`);
  }
  if (password !== undefined) return hashPassword(password, hashingAlgorithm);
  if (!isPasswordHash(passwordHash)) {
    throw new BrokerError('precondition-failed', `user '${name}': the password hash is no base64 of salt and hash`);
  }
  return { passwordHash, hashingAlgorithm };
}
