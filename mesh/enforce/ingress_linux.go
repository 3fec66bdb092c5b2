package enforce

import (
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Constants of linux/netfilter/nf_tables.h that golang.org/x/sys/unix lacks.
const (
	nfInetIngress  = 5 // NF_INET_INGRESS of linux/netfilter.h
	nftaHookDevs   = 4 // NFTA_HOOK_DEVS
	nftaDeviceName = 1 // NFTA_DEVICE_NAME
)

// ports returns the configured interfaces that exist, sorted: the kernel refuses a chain as a whole if one is missing.
func (n *nftTables) ports() (there []string, err error) {
	var absent []string
	defer func() {
		err = explain("look for the interfaces of enforce.ingress", err)
		n.absent.Store(nil)
		if len(absent) > 0 {
			names := strings.Join(absent, ", ")
			n.absent.Store(&names)
		}
	}()
	if len(n.ingress) == 0 {
		return nil, nil
	}
	fd, _, done, err := n.namespace()
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: fd})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := patiently(c); err != nil {
		return nil, err
	}
	for _, name := range n.ingress {
		question := new(script) // an ifinfomsg of zeros: which interface it is, its name says
		question.b = make([]byte, unix.SizeofIfInfomsg)
		question.text(unix.IFLA_IFNAME, name)
		_, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: question.b})
		switch {
		case err == nil:
			there = append(there, name)
		case errors.Is(err, syscall.ENODEV):
			absent = append(absent, name)
		default:
			return nil, err
		}
	}
	slices.Sort(there)
	return there, nil
}

// devicesOf returns the interfaces that a chain of the table is hooked to, sorted.
func (n *nftTables) devicesOf(chain string) (devices []string, err error) {
	s := &script{in: tableName}
	at := s.message(unix.NFT_MSG_GETCHAIN, 0)
	s.text(unix.NFTA_CHAIN_TABLE, s.in)
	s.text(unix.NFTA_CHAIN_NAME, chain)
	s.close(at)
	failed := n.exchange(s.b, func(m *syscall.NetlinkMessage) {
		if errno, is := code(m); is && errno != 0 {
			err = errno
		}
		if len(m.Data) < 4 {
			return
		}
		for kind, hook := range attributes(m.Data[4:]) {
			if kind != unix.NFTA_CHAIN_HOOK {
				continue
			}
			for kind, list := range attributes(hook) {
				if kind != nftaHookDevs {
					continue
				}
				for _, name := range attributes(list) {
					devices = append(devices, unix.ByteSliceToString(name))
				}
			}
		}
	})
	slices.Sort(devices)
	return devices, errors.Join(failed, err)
}
