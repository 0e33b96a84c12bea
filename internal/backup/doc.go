// Package backup does one run: what a source yields becomes a snapshot of a
// repository.
//
//	source.Scan --> scan: merges with the base's tree, decides what is unchanged
//	   |                batches of entries, in order
//	   +--> workers: open, read, cut, name, put      (one lane of the repository each)
//	   |       ^ segments
//	   +--> one reader for each large file: reads and cuts, so that all workers share its chunks
//	   |
//	   +--> build: takes the batches in order, writes directory pages bottom up, then the manifest
//
// The scan runs ahead of the workers and the builder behind them, both over
// bounded channels: memory depends on neither the number of files nor their
// sizes; only a file with several names is remembered until the last of them
// has come. The builder never waits for anything but the next batch in order,
// workers never wait for the builder, so the run can not block itself. A
// cancelled context ends every stage; the repository is sound at any moment,
// since the manifest comes last.
//
// A run that was interrupted leaves packs without a snapshot. The next one
// reads the files again and finds their chunks stored.
package backup
