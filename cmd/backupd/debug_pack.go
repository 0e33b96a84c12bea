package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) debugPackCommand() *cobra.Command {
	return p.look("pack [PACK]", "List the packs, or the blocks of one", "pack 328c", cobra.MaximumNArgs(1), func(ctx context.Context, r *repo.Repo, args []string) error {
		if len(args) == 0 {
			return p.packs(r.Packs())
		}
		pack, err := named(r.InspectPack(ctx, args[0]))
		if err != nil {
			return err
		}
		if p.json {
			return p.value(pack)
		}
		p.print("pack     %s\nkind     %s\nsize     %s, %s of it padding\nwriter   %s\nepoch    %d\n", pack.ID, pack.Kind, bytesText(pack.Size), bytesText(pack.Padding), pack.Writer, pack.KeyEpoch)
		p.table("BLOCK CODEC >DEPTH >OFFSET >SEALED >PLAIN >REACH >DICTIONARY >CHUNKS", func(row func(...any)) {
			for _, b := range pack.Blocks {
				row(b.Block, b.Codec, b.Depth, b.Offset, b.Sealed, b.Plain, b.Reach, len(b.Dictionary), len(b.Chunks))
			}
		})
		return nil
	})
}

func (p *program) packs(list []repo.PackInfo) error {
	if p.json {
		type pack struct {
			ID   string `json:"id"`
			Kind string `json:"kind"`
			Size int64  `json:"size"`
		}
		values := make([]pack, len(list))
		for i, x := range list {
			values[i] = pack{x.ID.String(), x.Kind, x.Size}
		}
		return p.value(values)
	}
	p.table("PACK KIND >SIZE", func(row func(...any)) {
		for _, x := range list {
			row(x.ID, x.Kind, bytesText(x.Size))
		}
	})
	return nil
}

// dictionaryValue is a chunk of a block's dictionary and where it is taken from.
type dictionaryValue struct {
	repo.Copy
	Copies int `json:"copies"`
}

func (p *program) debugBlockCommand() *cobra.Command {
	var raw bool
	c := p.look("block PACK BLOCK", "Explain how a block is stored: codec, depth, reach, dictionary, chunks", "block 328c 0", cobra.ExactArgs(2), func(ctx context.Context, r *repo.Repo, args []string) error {
		pack, err := named(r.InspectPack(ctx, args[0]))
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil || int(n) >= len(pack.Blocks) {
			return &absent{fmt.Errorf("block %s: %w: pack %s has blocks 0 to %d", printable(args[1]), repo.ErrNotFound, pack.ID, len(pack.Blocks)-1)}
		}
		b := &pack.Blocks[n]
		if raw {
			p.printed = true
			plain, err := r.BlockBytes(ctx, pack.ID, b.Block)
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(plain)
			return err
		}
		return p.explainBlock(ctx, r, pack, b)
	})
	c.Flags().BoolVar(&raw, "raw", false, "write the decoded bytes to standard output instead")
	return c
}

func (p *program) explainBlock(ctx context.Context, r *repo.Repo, pack *repo.PackInfo, b *repo.BlockInfo) error {
	dictionary := []dictionaryValue{}
	for _, id := range b.Dictionary {
		copies, err := r.Copies(ctx, id.String())
		if err != nil {
			return err
		}
		dictionary = append(dictionary, dictionaryValue{copies[0], len(copies)})
	}
	if p.json {
		return p.value(struct {
			Pack string `json:"pack"`
			Kind string `json:"kind"`
			*repo.BlockInfo
			Dictionary []dictionaryValue `json:"dictionary"`
		}{pack.ID.String(), pack.Kind, b, dictionary})
	}
	p.print("block    %d of pack %s (%s)", b.Block, pack.ID, pack.Kind)
	p.print("stored   %s at offset %d, sealed", bytesText(int64(b.Sealed)), b.Offset)
	p.print("decoded  %s in %s", bytesText(int64(b.Plain)), counted(len(b.Chunks), "chunk"))
	switch b.Codec {
	case "stored":
		p.print("codec    stored: it would not compress")
	case "zstd":
		p.print("codec    zstd: compressed by itself")
	case "delta":
		p.print("codec    delta: compressed against %s of earlier blocks, %d deep", counted(len(b.Dictionary), "chunk"), b.Depth)
	}
	p.print("reach    %s are decoded to read it, dictionaries included", bytesText(int64(b.Reach)))
	for _, d := range dictionary {
		p.print("takes    %s  %8d  from pack %s block %d (%s, depth %d)", d.ID.String(), d.Length, d.Pack, d.Block, d.Codec, d.Depth)
	}
	for _, c := range b.Chunks {
		p.print("chunk    %s  %8d", c.ID.String(), c.Length)
	}
	return nil
}

func (p *program) debugChunkCommand() *cobra.Command {
	return p.look("chunk ID", "Name every pack and block that holds a copy of a chunk", "chunk 5f2a91", cobra.ExactArgs(1), func(ctx context.Context, r *repo.Repo, args []string) error {
		copies, err := named(r.Copies(ctx, args[0]))
		if err != nil {
			return err
		}
		if p.json {
			return p.value(copies)
		}
		p.print("chunk %s, %s of %s, %s; the first counts", copies[0].ID, counted(int64(copies[0].Length), "byte"), copies[0].Kind, counted(len(copies), "copy"))
		p.table("PACK >BLOCK CODEC >DEPTH", func(row func(...any)) {
			for _, c := range copies {
				row(c.Pack, c.Block, c.Codec, c.Depth)
			}
		})
		return nil
	})
}
