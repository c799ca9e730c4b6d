/**
 * The administrator's side of the port: users, virtual hosts, permissions, policies, limits, definitions, alarms. The
 * model behind the HTTP API and command line of later gateways. Every verb that changes something takes effect for
 * open connections too, and resolves when the change is on disk, if the broker has a data folder. Names are unique;
 * putting what exists replaces it. Unknown names throw not-found; a value that cannot be throws precondition-failed with
 * a text that names it.
 */
import type { FieldTable } from '../fields.ts';
import type { Alarm, PeerInfo } from '../port.ts';

/** `rabbit_password_hashing_sha256`, `…_sha512` or `…_md5`: base64 of a 4-octet salt and the hash of salt + password. */
export type HashingAlgorithm =
  | 'rabbit_password_hashing_sha256'
  | 'rabbit_password_hashing_sha512'
  | 'rabbit_password_hashing_md5';

/** The hash functions of SCRAM-SHA-1 and SCRAM-SHA-256. */
export type ScramHash = 'SHA-1' | 'SHA-256';

/** What a server keeps of a password for SCRAM [RFC 5802 §3]; the octets in base64. */
export interface ScramKeys {
  readonly salt: string;
  readonly iterations: number;
  readonly storedKey: string;
  readonly serverKey: string;
}

/** The hashes of HTTP Digest logins [RFC 7616]. */
export type DigestAlgorithm = 'MD5' | 'SHA-256';

/** The hash of user, realm and password, in hexadecimal. */
export type UserDigestKeys = { readonly [algorithm in DigestAlgorithm]: string };

export type UserScramKeys = { readonly [hash in ScramHash]: ScramKeys };

export interface UserLimits {
  readonly maxConnections?: number;
  readonly maxChannels?: number;
}

export interface VhostLimits {
  readonly maxConnections?: number;
  readonly maxQueues?: number;
}

export interface UserSpec {
  readonly name: string;
  /** Either the password, or its hash; neither: the user cannot log in with a password. */
  readonly password?: string;
  readonly passwordHash?: string;
  readonly hashingAlgorithm?: HashingAlgorithm;
  readonly tags?: readonly string[];
  readonly limits?: UserLimits;
}

export interface UserView {
  readonly name: string;
  readonly passwordHash: string;
  readonly hashingAlgorithm: HashingAlgorithm;
  /** Absent until Warren has seen the password: a user imported with a hash has them after his first login with it. */
  readonly scram?: UserScramKeys;
  /** As `scram`, for Digest logins. */
  readonly digest?: UserDigestKeys;
  readonly tags: readonly string[];
  readonly limits: UserLimits;
}

export interface VhostSpec {
  readonly name: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  /** `x-queue-type` of queues declared without one. */
  readonly defaultQueueType?: string;
  readonly limits?: VhostLimits;
}

/** Regular expressions on the names of queues and exchanges, matched anywhere unless anchored; '' matches nothing. */
export interface Permission {
  readonly vhost: string;
  readonly user: string;
  readonly configure: string;
  readonly write: string;
  readonly read: string;
}

/** Regular expressions on routing keys of one topic exchange; `{username}` and `{vhost}` are replaced first. */
export interface TopicPermission {
  readonly vhost: string;
  readonly user: string;
  /** '' = every topic exchange */
  readonly exchange: string;
  readonly write: string;
  readonly read: string;
}

export type PolicyScope = 'all' | 'queues' | 'classic_queues' | 'quorum_queues' | 'streams' | 'exchanges';

export interface Policy {
  readonly vhost: string;
  readonly name: string;
  /** Regular expression on the name of a queue or exchange. */
  readonly pattern: string;
  readonly applyTo: PolicyScope;
  /** The highest that matches wins. */
  readonly priority: number;
  /** Keys are argument names without `x-`. */
  readonly definition: FieldTable;
}

export interface DelayedMessageView {
  readonly id: string;
  readonly exchange: string;
  readonly routingKey: string;
  /** Milliseconds since 1970. */
  readonly dueMs: number;
  readonly bodyBytes: number;
}

/** Definitions as RabbitMQ writes them, parsed from JSON; unknown keys are ignored on import. */
export type Definitions = { readonly [key: string]: unknown };

export interface ImportOptions {
  /**
   * Only what is in virtual hosts is imported, all of it into this one, which must exist: for documents exported from
   * a single one. Absent: everything, each to where it says.
   */
  readonly vhost?: string;
  /** Called before anything is changed for what is passed over: things named `amq.…`, bindings of what is not there. */
  readonly onSkipped?: (what: string) => void;
}

export interface Administration {
  users(): Promise<readonly UserView[]>;
  /** Tags count from the user's next login. */
  putUser(user: UserSpec): Promise<void>;
  /** Closes the connections of that user. */
  deleteUser(name: string): Promise<void>;
  setUserLimits(name: string, limits: UserLimits): Promise<void>;

  vhosts(): Promise<readonly VhostSpec[]>;
  putVhost(vhost: VhostSpec): Promise<void>;
  /** Closes its connections and deletes everything in it. */
  deleteVhost(name: string): Promise<void>;
  setVhostLimits(name: string, limits: VhostLimits): Promise<void>;

  permissions(): Promise<readonly Permission[]>;
  setPermission(permission: Permission): Promise<void>;
  clearPermission(vhost: string, user: string): Promise<void>;
  topicPermissions(): Promise<readonly TopicPermission[]>;
  setTopicPermission(permission: TopicPermission): Promise<void>;
  /** Without an exchange: all of that user in that virtual host. */
  clearTopicPermission(vhost: string, user: string, exchange?: string): Promise<void>;

  policies(): Promise<readonly Policy[]>;
  setPolicy(policy: Policy): Promise<void>;
  clearPolicy(vhost: string, name: string): Promise<void>;
  operatorPolicies(): Promise<readonly Policy[]>;
  setOperatorPolicy(policy: Policy): Promise<void>;
  clearOperatorPolicy(vhost: string, name: string): Promise<void>;

  /** Takes a global parameter away that definitions have brought; without one of that name nothing happens. */
  clearGlobalParameter(name: string): Promise<void>;

  /**
   * Idempotent: queues, exchanges and bindings that exist stay as they are; users, virtual hosts, permissions, policies
   * and parameters take over what the document says. Nothing is changed when the document does not fit.
   */
  importDefinitions(definitions: Definitions, options?: ImportOptions): Promise<void>;
  /** Of the whole broker or of one virtual host (no users then); without `amq.*`, exclusive and internal things. */
  exportDefinitions(vhost?: string): Promise<Definitions>;

  connections(): Promise<readonly (PeerInfo & { readonly username: string; readonly vhost: string })[]>;
  /** Closes the connection of that `PeerInfo.name` with connection-forced and `reason`. */
  closeConnection(name: string, reason: string): Promise<void>;

  delayedMessages(vhost: string): Promise<readonly DelayedMessageView[]>;
  /** False when no such message is waiting any more. */
  cancelDelayedMessage(vhost: string, id: string): Promise<boolean>;

  alarms(): Promise<readonly Alarm[]>;
  /**
   * An alarm is in force while any `source` (default `administrator`) raises it: the watchers of memory and disk, the
   * store and people do not clear each other's.
   */
  setAlarm(alarm: Alarm, raised: boolean, source?: string): Promise<void>;
}
