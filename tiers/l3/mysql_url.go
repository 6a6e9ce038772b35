package l3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
)

const urlForm = "want mysql://user:password@host:3306/database"

// mysqlConfig reads o.URL. No error shows the address itself: a password may be
// in it. title names the database without.
func mysqlConfig(o *Options) (c *mysql.Config, title string, err error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, "", fmt.Errorf("l3: URL of the SQL server is malformed, %s; a password with special characters is written in %%-form", urlForm)
	}
	c = mysql.NewConfig()
	c.User, c.DBName = u.User.Username(), strings.TrimPrefix(u.Path, "/")
	c.Passwd, _ = u.User.Password()
	if o.Password != "" {
		c.Passwd = o.Password
	}
	switch {
	case u.Scheme != "mysql" && u.Scheme != "mariadb":
		return nil, "", fmt.Errorf("l3: URL of the SQL server begins with %q, %s", u.Scheme, urlForm)
	case c.User == "":
		return nil, "", fmt.Errorf("l3: URL of the SQL server has no user, %s", urlForm)
	case c.DBName == "" || strings.Contains(c.DBName, "/") || u.Fragment != "":
		return nil, "", fmt.Errorf("l3: URL of the SQL server names no database, %s", urlForm)
	}
	c.Net, c.Addr = "tcp", address(u)
	if err := mysqlParameters(c, u); err != nil {
		return nil, "", err
	}
	if c.Addr == "" {
		return nil, "", fmt.Errorf("l3: URL of the SQL server has neither host nor socket, %s", urlForm)
	}
	c.Timeout, c.ReadTimeout, c.WriteTimeout = o.Timeout, o.Timeout, o.Timeout
	c.Collation = "binary"
	c.InterpolateParams = true
	c.MaxAllowedPacket = 0 // the server's
	c.Logger = &mysql.NopLogger{}
	return c, c.Addr + "/" + c.DBName, nil
}

func address(u *url.URL) string {
	switch {
	case u.Hostname() == "":
		return ""
	case u.Port() == "":
		return net.JoinHostPort(u.Hostname(), "3306")
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

// mysqlParameters reads what follows the question mark.
func mysqlParameters(c *mysql.Config, u *url.URL) error {
	var errs []error
	authorities := ""
	for name, values := range u.Query() {
		value := values[len(values)-1]
		switch name {
		case "tls":
			switch value {
			case "true", "false", "skip-verify", "preferred":
				c.TLSConfig = value
			default:
				errs = append(errs, fmt.Errorf("l3: tls=%s in the URL of the SQL server, allowed are true, skip-verify, preferred and false", value))
			}
		case "tls_ca":
			authorities = value
		case "socket":
			c.Net, c.Addr = "unix", value
		default:
			errs = append(errs, fmt.Errorf("l3: unknown parameter %s in the URL of the SQL server, allowed are tls, tls_ca and socket", name))
		}
	}
	if authorities != "" {
		errs = append(errs, trust(c, u.Hostname(), authorities))
	}
	return errors.Join(errs...)
}

// trust has the server prove its name by the authorities in file.
func trust(c *mysql.Config, host, file string) error {
	if c.TLSConfig != "true" {
		return errors.New("l3: tls_ca in the URL of the SQL server needs tls=true")
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("l3: authorities of the SQL server: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("l3: %s has no certificate in PEM form", file)
	}
	c.TLS = &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}
	return nil
}
