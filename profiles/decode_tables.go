package profiles

// The messages of a profile that samples refer to: mappings, locations with their lines, functions.

func (d *decodeState) mapping(f *wireField) error {
	if len(d.mappings) >= d.lim.MaxMappings {
		return tooMany(LimitMappings, "mappings", d.lim.MaxMappings, len(d.mappings)+1)
	}
	var m Mapping
	var r rawMapping
	var id uint32
	it := d.iter(f.lo, f.hi)
	for it.next() {
		if it.num < 1 || it.num > 10 {
			continue
		}
		if it.typ != wireVarint {
			return wrongType("a mapping", &it.wireField)
		}
		var err error
		switch it.num {
		case 1:
			id, err = d.narrow(it.v)
		case 2:
			m.Start = it.v
		case 3:
			m.Limit = it.v
		case 4:
			m.Offset = it.v
		case 5:
			r.file = int64(it.v)
		case 6:
			r.build = int64(it.v)
		case 7:
			m.HasFunctions = it.v != 0
		}
		if err != nil {
			return err
		}
	}
	d.mappings, d.mappingIDs = append(d.mappings, r), append(d.mappingIDs, id)
	d.p.Mappings = append(d.p.Mappings, m)
	return it.err("a mapping")
}

func (d *decodeState) location(lo, hi int) error {
	p := d.p
	if len(p.Locations) >= d.lim.MaxLocations {
		return tooMany(LimitLocations, "locations", d.lim.MaxLocations, len(p.Locations)+1)
	}
	l := Location{Lines: Span{Lo: uint32(len(p.Lines))}}
	var id uint32
	it := d.iter(lo, hi)
	for it.next() {
		if it.num < 1 || it.num > 5 {
			continue
		}
		if (it.num == 4) != (it.typ == wireBytes) || it.typ != wireBytes && it.typ != wireVarint {
			return wrongType("a location", &it.wireField)
		}
		var err error
		switch it.num {
		case 1:
			id, err = d.narrow(it.v)
		case 2:
			l.Mapping, err = d.narrow(it.v)
		case 3:
			l.Address = it.v
		case 4:
			err = d.line(it.lo, it.hi)
		}
		if err != nil {
			return err
		}
	}
	if err := it.err("a location"); err != nil {
		return err
	}
	l.Lines.Hi = uint32(len(p.Lines))
	p.Locations = append(p.Locations, l)
	d.locationIDs = append(d.locationIDs, id)
	return nil
}

func (d *decodeState) line(lo, hi int) error {
	p := d.p
	if len(p.Lines) >= d.lim.MaxLines {
		return tooMany(LimitLines, "lines", d.lim.MaxLines, len(p.Lines)+1)
	}
	var l Line
	it := d.iter(lo, hi)
	for it.next() {
		if it.num < 1 || it.num > 3 {
			continue
		}
		if it.typ != wireVarint {
			return wrongType("a line", &it.wireField)
		}
		switch it.num {
		case 1:
			var err error
			if l.Function, err = d.narrow(it.v); err != nil {
				return err
			}
		case 2:
			l.Line = int64(it.v)
		}
	}
	p.Lines = append(p.Lines, l)
	return it.err("a line")
}

func (d *decodeState) function(lo, hi int) error {
	if len(d.functions) >= d.lim.MaxFunctions {
		return tooMany(LimitFunctions, "functions", d.lim.MaxFunctions, len(d.functions)+1)
	}
	var r rawFunction
	var id uint32
	var start int64
	it := d.iter(lo, hi)
	for it.next() {
		if it.num < 1 || it.num > 5 {
			continue
		}
		if it.typ != wireVarint {
			return wrongType("a function", &it.wireField)
		}
		var err error
		switch it.num {
		case 1:
			id, err = d.narrow(it.v)
		case 2:
			r.name = int64(it.v)
		case 3:
			r.system = int64(it.v)
		case 4:
			r.file = int64(it.v)
		case 5:
			start = int64(it.v)
		}
		if err != nil {
			return err
		}
	}
	d.functions, d.functionIDs = append(d.functions, r), append(d.functionIDs, id)
	d.p.Functions = append(d.p.Functions, Function{StartLine: start})
	return it.err("a function")
}
