// The server's half of SCRAM-SHA-256 (RFC 7677), enough to let strophe in or not.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';

const HASH = 'sha256';
const ITERATIONS = 4096;
const hmac = (key: Buffer, text: string) => createHmac(HASH, key).update(text).digest();
const xor = (a: Buffer, b: Buffer) => Buffer.from(a.map((x, i) => x ^ (b[i] ?? 0)));
const field = (text: string, name: string) => new RegExp(`(?:^|,)${name}=([^,]*)`).exec(text)?.[1] ?? '';

export class Scram {
  #salt: Buffer = Buffer.alloc(0);
  #first = '';
  #challenge = '';
  user = '';

  /** Takes the client's first message and answers with the challenge. */
  challenge(message: string): string {
    this.#first = message.replace(/^[nyp][^,]*,[^,]*,/, '');
    this.user = field(this.#first, 'n');
    this.#salt = createHash(HASH).update(`salt of ${this.user}`).digest().subarray(0, 16); // the same for each sign-in
    const nonce = field(this.#first, 'r') + randomBytes(12).toString('hex');
    this.#challenge = `r=${nonce},s=${this.#salt.toString('base64')},i=${ITERATIONS}`;
    return this.#challenge;
  }

  /** Takes the proof; the server's signature, or undefined when the password is wrong. */
  finish(message: string, password: string): string | undefined {
    const without = message.replace(/,p=[^,]*$/, '');
    const auth = `${this.#first},${this.#challenge},${without}`;
    const salted = pbkdf2Sync(password, this.#salt, ITERATIONS, 32, HASH);
    const stored = createHash(HASH).update(hmac(salted, 'Client Key')).digest();
    const key = xor(Buffer.from(field(message, 'p'), 'base64'), hmac(stored, auth));
    const proof = createHash(HASH).update(key).digest();
    if (proof.length !== stored.length || !timingSafeEqual(proof, stored)) return undefined;
    return `v=${hmac(hmac(salted, 'Server Key'), auth).toString('base64')}`;
  }
}
