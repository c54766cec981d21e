/** A console that is shown. */
export interface Shown {
  focus(): void;
  ctrlAltDel?(): void;
  end(): void;
}
