/** First characters of a report, by which our own files are recognized. */
export const PAGE_HEAD = "<!doctype html>\n<!-- nextvlad report -->";
